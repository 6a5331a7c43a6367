// Rows of the residual stream for one instruction set; see osa_rows.h for what is computed.
#ifndef OSA_ROWS_KERNEL_H
#define OSA_ROWS_KERNEL_H

#include "osa_rows.h"
#include "simd.h"

namespace {

// Sum of squares, in an order that depends on the width alone.
OSA_INLINE float squares(const float* row, int64_t width) {
  constexpr int64_t step = Simd<float>::width;
  Vector<float> sums{};
  int64_t i = 0;
  for (; i + step <= width; i += step) {
    const Vector<float> value = load(row + i);
    sums += value * value;
  }
  float total = 0.0f;
  for (int64_t lane = 0; lane < step; ++lane) total += sums[lane];
  for (; i < width; ++i) total += row[i] * row[i];
  return total;
}

OSA_INLINE float inverse_root(float total, int64_t width, float epsilon) {
  return 1.0f / __builtin_sqrtf(total / static_cast<float>(width) + epsilon);
}

template <int Count>
void add_parts(float* hidden, const bfloat16* const* parts, int64_t width) {
  for (int64_t i = 0; i < width; ++i) {
    float total = widen(parts[0][i]);
    for (int part = 1; part < Count; ++part) total += widen(parts[part][i]);
    hidden[i] += total;
  }
}

void add_norm_rows(const OsaNormCall* call, int64_t from, int64_t to) {
  const int64_t width = call->width;
  for (int64_t row = from; row < to; ++row) {
    float* const hidden = call->hidden + row * width;
    const bfloat16* parts[OSA_MAX_PARTS];
    for (int64_t part = 0; part < call->part_count; ++part)
      parts[part] = static_cast<const bfloat16*>(call->parts[part]) + row * width;
    switch (call->part_count) {
      case 0: break;
      case 1: add_parts<1>(hidden, parts, width); break;
      case 2: add_parts<2>(hidden, parts, width); break;
      case 3: add_parts<3>(hidden, parts, width); break;
      case 4: add_parts<4>(hidden, parts, width); break;
      case 5: add_parts<5>(hidden, parts, width); break;
      case 6: add_parts<6>(hidden, parts, width); break;
      case 7: add_parts<7>(hidden, parts, width); break;
      default: add_parts<8>(hidden, parts, width);
    }
    if (!call->output) continue;
    const float scale = inverse_root(squares(hidden, width), width, call->epsilon);
    bfloat16* const output = static_cast<bfloat16*>(call->output) + row * width;
    for (int64_t i = 0; i < width; ++i) narrow(hidden[i] * scale * call->weight[i], output + i);
  }
}

void prepare_head(bfloat16* head, const float* cosine, const float* sine, int64_t width,
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

void prepare_heads_rows(const OsaHeadsCall* call, int64_t from, int64_t to) {
  const int64_t width = call->head_dim, half = width / 2, heads = call->heads;
  for (int64_t row = from; row < to; ++row) {
    bfloat16* const states = static_cast<bfloat16*>(call->states) + row * 3 * heads * width;
    const float* const cosine = call->cosine ? call->cosine + row * half : nullptr;
    const float* const sine = call->sine ? call->sine + row * half : nullptr;
    for (int64_t head = 0; head < 2 * heads; ++head)
      prepare_head(states + head * width, cosine, sine, width, call->epsilon, call->normalize);
  }
}

}  // namespace
#endif
