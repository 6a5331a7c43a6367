// Pooling of packed sequences, for one instruction set; see osa_pool.h.
#ifndef OSA_POOL_H
#define OSA_POOL_H

#include "osa_pool.h"
#include "simd.h"

namespace {

constexpr int64_t POOLED_AT_ONCE = 128;  // rows whose sum is added to that of those before: long sums stay exact

inline void pool_sequence(const OsaPoolCall* call, int64_t sequence) {
  constexpr int64_t W = Simd<float>::width;
  const int64_t first = call->cu_seqlens[sequence], count = call->cu_seqlens[sequence + 1] - first;
  const int64_t width = call->width, stride = call->stride;
  float* const to = call->vectors + sequence * width;
  for (int64_t i = 0; i < width; ++i) to[i] = 0.0f;
  if (!count) return;
  const float* const rows = call->hidden + first * stride;
  if (call->how == OSA_POOL_CLS || call->how == OSA_POOL_LAST) {
    const float* const row = call->how == OSA_POOL_CLS ? rows : rows + (count - 1) * stride;
    for (int64_t i = 0; i < width; ++i) to[i] = row[i];
    return;
  }
  const bool weighted = call->how == OSA_POOL_WEIGHTED;
  const float n = static_cast<float>(count), whole = weighted ? n * (n + 1.0f) / 2.0f : n;
  for (int64_t from = 0; from < count; from += POOLED_AT_ONCE) {
    const int64_t end = smaller(from + POOLED_AT_ONCE, count);
    const auto weight_of = [&](int64_t row) { return weighted ? static_cast<float>(row + 1) : 1.0f; };
    int64_t i = 0;
    for (; i + W <= width; i += W) {
      Vector<float> sum{};
      for (int64_t row = from; row < end; ++row) sum += load(rows + row * stride + i) * splat(weight_of(row));
      store(to + i, load(to + i) + sum);
    }
    for (; i < width; ++i) {
      float sum = 0.0f;
      for (int64_t row = from; row < end; ++row) sum += rows[row * stride + i] * weight_of(row);
      to[i] += sum;
    }
  }
  for (int64_t i = 0; i < width; ++i) to[i] /= whole;
}

}  // namespace
#endif
