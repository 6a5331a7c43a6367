// Norms and positions of single rows, for one instruction set.
#ifndef OSA_ROWS_H
#define OSA_ROWS_H

#include "simd.h"

namespace {

// Sum, and sum of squares less `mean`, in an order that depends on the width alone.
OSA_INLINE float total(const float* row, int64_t width) {
  constexpr int64_t step = Simd<float>::width;
  Vector<float> sums{};
  int64_t i = 0;
  for (; i + step <= width; i += step) sums += load(row + i);
  float found = 0.0f;
  for (int64_t lane = 0; lane < step; ++lane) found += sums[lane];
  for (; i < width; ++i) found += row[i];
  return found;
}
OSA_INLINE float squares(const float* row, int64_t width, float mean = 0.0f) {
  constexpr int64_t step = Simd<float>::width;
  Vector<float> sums{};
  int64_t i = 0;
  for (; i + step <= width; i += step) {
    const Vector<float> value = load(row + i) - splat(mean);
    sums += value * value;
  }
  float found = 0.0f;
  for (int64_t lane = 0; lane < step; ++lane) found += sums[lane];
  for (; i < width; ++i) found += (row[i] - mean) * (row[i] - mean);
  return found;
}

OSA_INLINE float inverse_root(float total, int64_t width, float epsilon) {
  return 1.0f / __builtin_sqrtf(total / static_cast<float>(width) + epsilon);
}

inline void prepare_head(bfloat16* head, const float* cosine, const float* sine, int64_t width,
                         float epsilon, bool normalize) {
  float row[128];
  for (int64_t i = 0; i < width; ++i) row[i] = widen(head[i]);
  if (normalize) {
    const float scale = inverse_root(squares(row, width), width, epsilon);
    for (int64_t i = 0; i < width; ++i) row[i] *= scale;
  }
  if (cosine) {
    const int64_t half = width / 2;
    for (int64_t i = 0; i < half; ++i) {
      const float left = row[i], right = row[half + i];
      row[i] = left * cosine[i] - right * sine[i];
      row[half + i] = right * cosine[i] + left * sine[i];
    }
  }
  for (int64_t i = 0; i < width; ++i) narrow(row[i], head + i);
}

}  // namespace
#endif
