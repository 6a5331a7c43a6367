// Between the caller's tensors and packed rows [q | k | v] of one sequence and head.
#ifndef OSA_OPERANDS_H
#define OSA_OPERANDS_H

#include "backend.h"
#include "product.h"

namespace {

// Rows of one tensor, of the real tokens of one sequence and head.
template <class In>
struct Rows {
  In* data;
  int64_t stride;
  const int32_t* tokens;

  OSA_INLINE In* operator[](int64_t index) const {
    return data + (tokens ? tokens[index] : index) * stride;
  }
};

template <class In>
struct Operands {
  const OsaCall& call;
  const OsaSequence& sequence;
  int64_t head, head_dim, count;
  Rows<In> query, key, value, output;

  explicit Operands(const OsaTask& task)
      : call(*task.call), sequence(*task.sequence), head(task.head), head_dim(call.head_dim),
        count(sequence.count), query(rows(call.query)), key(rows(call.key)), value(rows(call.value)), output(rows(call.output)) {}

  Rows<In> rows(const OsaTensor& tensor) const {
    const int64_t first = sequence.tokens ? 0 : sequence.first;
    In* start = static_cast<In*>(tensor.data) + sequence.batch * tensor.batch_stride +
                head * tensor.head_stride + first * tensor.token_stride;
    return {start, tensor.token_stride, sequence.tokens};
  }
  // c of S = c (Q K^T - K Q^T).
  double factor() const {
    const double scale = static_cast<double>(call.alpha[head]) / __builtin_sqrt(double(head_dim));
    return call.scale == OSA_SCALE_LENGTH ? scale / double(larger<int64_t>(count, 1)) : scale;
  }
  void fill_nan() const {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < head_dim; ++j) narrow(__builtin_nanf(""), output[i] + j);
  }
};

// Mean query and key [2, padded], summed in double over the real tokens; nothing where not centred.
template <class In, class T>
void mean_of(const Operands<In>& from, int64_t padded, double* sums, T* mean) {
  if (!from.call.center) return;
  for (int64_t j = 0; j < 2 * padded; ++j) sums[j] = 0.0;
  for (int64_t i = 0; i < from.count; ++i) {
    const In* query = from.query[i];
    const In* key = from.key[i];
    for (int64_t j = 0; j < from.head_dim; ++j) {
      sums[j] += static_cast<double>(widen(query[j]));
      sums[padded + j] += static_cast<double>(widen(key[j]));
    }
  }
  for (int64_t j = 0; j < 2 * padded; ++j)
    mean[j] = static_cast<T>(sums[j] / double(larger<int64_t>(from.count, 1)));
}

template <class In, class T>
OSA_INLINE void pack_part(const In* from, const T* mean, int64_t head_dim, int64_t padded, T* to) {
  if (mean)
    for (int64_t j = 0; j < head_dim; ++j) to[j] = static_cast<T>(widen(from[j])) - mean[j];
  else
    for (int64_t j = 0; j < head_dim; ++j) to[j] = static_cast<T>(widen(from[j]));
  for (int64_t j = head_dim; j < padded; ++j) to[j] = T(0);
}

// Rows start ... stop of one head, to be asked for ahead; none where they do not lie in line.
template <class In>
Ahead rows_ahead(const Operands<In>& from, int64_t head, int64_t start, int64_t stop) {
  Ahead ahead;
  if (from.sequence.tokens || head >= from.call.heads || stop <= start) return ahead;
  const Rows<In>* parts[] = {&from.query, &from.key, &from.value};
  const int64_t heads[] = {from.call.query.head_stride, from.call.key.head_stride,
                           from.call.value.head_stride};
  constexpr int64_t SIZE = sizeof(In);
  for (int i = 0; i < 3; ++i) {
    ahead.strides[i] = SIZE * parts[i]->stride;
    ahead.rows[i] = reinterpret_cast<const char*>(parts[i]->data + (head - from.head) * heads[i]) +
                    start * ahead.strides[i];
  }
  ahead.lines = (SIZE * from.head_dim + 63) / 64;
  ahead.tokens = stop - start;
  return ahead;
}

// Rows [q | k | v] of operands that need no change and are Vectors vectors wide.
template <class T, int Vectors>
void copy_rows(const Operands<T>& from, int64_t start, int64_t count, T* to) {
  constexpr int64_t W = Simd<T>::width;
  const Rows<T> parts[] = {from.query, from.key, from.value};
  for (int64_t i = start; i < start + count; ++i) {
    OSA_UNROLL(3)
    for (int part = 0; part < 3; ++part) {
      const T* row = parts[part][i];
      OSA_UNROLL(8)
      for (int v = 0; v < Vectors; ++v, to += W) store(to, load(row + v * W));
    }
  }
}

// The same for any operands: each part padded with zeros to `padded`, of tokens start ... start + count.
template <class In, class T>
void pack(const Operands<In>& from, const T* mean, int64_t start, int64_t count, int64_t padded, T* to) {
  const T* mean_query = from.call.center ? mean : nullptr;
  const T* mean_key = from.call.center ? mean + padded : nullptr;
  if constexpr (Same<In, T>::value) {
    if (!from.call.center && from.head_dim == padded) {
      if (padded == 2 * Simd<T>::width) return copy_rows<T, 2>(from, start, count, to);
      if (padded == 4 * Simd<T>::width) return copy_rows<T, 4>(from, start, count, to);
      if (padded == 8 * Simd<T>::width) return copy_rows<T, 8>(from, start, count, to);
    }
  }
  const Rows<In> query = from.query, key = from.key, value = from.value;
  const int64_t width = from.head_dim;
  for (int64_t i = start; i < start + count; ++i, to += 3 * padded) {
    pack_part<In, T>(query[i], mean_query, width, padded, to);
    pack_part<In, T>(key[i], mean_key, width, padded, to + padded);
    pack_part<In, T>(value[i], nullptr, width, padded, to + 2 * padded);
  }
}

// The caller's own rows as a target of products, where they can be one; else null.
template <class T, class In>
T* direct_rows(const Operands<In>& to, int64_t start, int64_t padded) {
  if constexpr (Same<T, In>::value) {
    const bool dense = !to.sequence.tokens && to.head_dim == padded;
    if (dense) return to.output[start];
  }
  return nullptr;
}

template <class In, class T>
void unpack(const Operands<In>& to, int64_t start, int64_t count, const T* from, int64_t from_row) {
  for (int64_t i = 0; i < count; ++i, from += from_row) {
    In* row = to.output[start + i];
    for (int64_t j = 0; j < to.head_dim; ++j) narrow(static_cast<float>(from[j]), row + j);
  }
}

}  // namespace
#endif
