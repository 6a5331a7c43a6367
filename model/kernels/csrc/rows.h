// Norms and positions of single rows, for one instruction set.
#ifndef OSA_ROWS_H
#define OSA_ROWS_H

#include "elementary.h"
#include "osa_rows.h"
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

// See osa_rows.h.
inline void activate_row(float* row, const float* bias, int64_t width) {
  constexpr int64_t W = Simd<float>::width;
  int64_t i = 0;
  for (; i + W <= width; i += W) {
    Vector<float> value = load(row + i);
    if (bias) value += load(bias + i);
    store(row + i, exact_gelu(value));
  }
  if (i == width) return;
  alignas(64) float rest[W] = {};
  for (int64_t j = i; j < width; ++j) rest[j - i] = row[j] + (bias ? bias[j] : 0.0f);
  store(rest, exact_gelu(load(rest)));
  for (int64_t j = i; j < width; ++j) row[j] = rest[j - i];
}

inline void norm_row(float* row, const float* weight, const float* bias, int64_t width, float epsilon, bool layer) {
  constexpr int64_t W = Simd<float>::width;
  const float mean = layer ? total(row, width) / static_cast<float>(width) : 0.0f;
  const float scale = inverse_root(squares(row, width, mean), width, epsilon);
  int64_t i = 0;
  for (; i + W <= width; i += W) {
    Vector<float> value = (load(row + i) - splat(mean)) * splat(scale) * load(weight + i);
    if (bias) value += load(bias + i);
    store(row + i, value);
  }
  for (; i < width; ++i) row[i] = (row[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f);
}

inline void add_and_norm_row(float* row, const float* added, const float* bias, const float* weight,
                             const float* norm_bias, int64_t width, float epsilon) {
  constexpr int64_t W = Simd<float>::width;
  int64_t i = 0;
  for (; i + W <= width; i += W) {
    Vector<float> value = load(added + i);
    if (bias) value += load(bias + i);
    store(row + i, load(row + i) + value);
  }
  for (; i < width; ++i) row[i] += added[i] + (bias ? bias[i] : 0.0f);
  norm_row(row, weight, norm_bias, width, epsilon, true);
}

inline void process_rows(const OsaRowsCall* call, int64_t from, int64_t to) {
  const int64_t width = call->width;
  for (int64_t row = from; row < to; ++row) {
    float* const at = call->rows + row * call->stride;
    if (call->operation == OSA_ACTIVATE) activate_row(at, call->bias, width);
    else if (call->operation != OSA_ADD_AND_NORM)
      norm_row(at, call->norm_weight, call->norm_bias, width, call->epsilon, call->operation == OSA_LAYER_NORM);
    else
      add_and_norm_row(at, call->added + row * width, call->bias, call->norm_weight, call->norm_bias, width,
                       call->epsilon);
  }
}

template <class State>
inline void prepare_head(State* head, const float* cosine, const float* sine, int64_t width,
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
