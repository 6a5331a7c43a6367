// Between the caller's tensors and packed rows [q | k | v] of one sequence and head.
#ifndef OSA_OPERANDS_H
#define OSA_OPERANDS_H

#include "backend.h"
#include "simd.h"

namespace {

template <class In>
struct Operands {
  const OsaCall& call;
  const OsaSequence& sequence;
  int64_t head, head_dim;

  explicit Operands(const OsaTask& task)
      : call(*task.call), sequence(*task.sequence), head(task.head), head_dim(call.head_dim) {}

  int64_t token(int64_t index) const {
    return sequence.tokens ? sequence.tokens[index] : sequence.first + index;
  }
  In* row(const OsaTensor& tensor, int64_t index) const {
    return static_cast<In*>(tensor.data) + sequence.batch * tensor.batch_stride +
           head * tensor.head_stride + token(index) * tensor.token_stride;
  }
  // c of S = c (Q K^T - K Q^T).
  double factor() const {
    const double scale = static_cast<double>(call.alpha[head]) / __builtin_sqrt(double(head_dim));
    return call.scale == OSA_SCALE_LENGTH ? scale / double(larger<int64_t>(sequence.count, 1)) : scale;
  }
  void fill_nan() const {
    for (int64_t i = 0; i < sequence.count; ++i)
      for (int64_t j = 0; j < head_dim; ++j) narrow(__builtin_nanf(""), row(call.output, i) + j);
  }
};

// Mean query and key [2, padded] in double, over the real tokens; zero where not centred.
template <class In, class T>
void mean_of(const Operands<In>& from, int64_t padded, double* sums, T* mean) {
  for (int64_t j = 0; j < 2 * padded; ++j) sums[j] = 0.0;
  if (from.call.center) {
    for (int64_t i = 0; i < from.sequence.count; ++i) {
      const In* query = from.row(from.call.query, i);
      const In* key = from.row(from.call.key, i);
      for (int64_t j = 0; j < from.head_dim; ++j) {
        sums[j] += static_cast<double>(widen(query[j]));
        sums[padded + j] += static_cast<double>(widen(key[j]));
      }
    }
  }
  for (int64_t j = 0; j < 2 * padded; ++j)
    mean[j] = static_cast<T>(sums[j] / double(larger<int64_t>(from.sequence.count, 1)));
}

template <class In, class T>
OSA_INLINE void pack_part(const In* from, const T* mean, int64_t head_dim, int64_t padded, T* to) {
  if (mean)
    for (int64_t j = 0; j < head_dim; ++j) to[j] = static_cast<T>(widen(from[j])) - mean[j];
  else
    for (int64_t j = 0; j < head_dim; ++j) to[j] = static_cast<T>(widen(from[j]));
  for (int64_t j = head_dim; j < padded; ++j) to[j] = T(0);
}

// Rows [q | k | v], each part padded with zeros to `padded`, of tokens start ... start + count.
template <class In, class T>
void pack(const Operands<In>& from, const T* mean, int64_t start, int64_t count, int64_t padded, T* to) {
  const T* mean_query = from.call.center ? mean : nullptr;
  const T* mean_key = from.call.center ? mean + padded : nullptr;
  for (int64_t i = start; i < start + count; ++i, to += 3 * padded) {
    pack_part<In, T>(from.row(from.call.query, i), mean_query, from.head_dim, padded, to);
    pack_part<In, T>(from.row(from.call.key, i), mean_key, from.head_dim, padded, to + padded);
    pack_part<In, T>(from.row(from.call.value, i), nullptr, from.head_dim, padded, to + 2 * padded);
  }
}

// The caller's own rows as a target of products, where they can be one; else null.
template <class T, class In>
T* direct_rows(const Operands<In>& to, int64_t start, int64_t padded) {
  if constexpr (Same<T, In>::value) {
    const bool dense = !to.sequence.tokens && to.head_dim == padded;
    if (dense) return to.row(to.call.output, start);
  }
  return nullptr;
}

template <class In, class T>
void unpack(const Operands<In>& to, int64_t start, int64_t count, const T* from, int64_t from_row) {
  for (int64_t i = 0; i < count; ++i, from += from_row) {
    In* row = to.row(to.call.output, start + i);
    for (int64_t j = 0; j < to.head_dim; ++j) narrow(static_cast<float>(from[j]), row + j);
  }
}

}  // namespace
#endif
