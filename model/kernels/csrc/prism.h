// One head of PRISM over one packed sequence; see osa_recurrence.h.
#ifndef OSA_PRISM_KERNEL_H
#define OSA_PRISM_KERNEL_H

#include "recurrence.h"

namespace {

// What a token does to the state, rows padded.
struct PrismToken {
  alignas(64) float query[WIDEST], first[WIDEST], second[WIDEST];  // unit vectors
  alignas(64) float wanted[2][WIDEST];                             // b_l delta_l
  float keep, rate;                                                // a, b_1
};

template <class In>
struct PrismHead {
  const RecurrentHead<In> of;
  const float* const taps;
  const float keeping;
  float* const state;   // [head_dim keys, padded values]: every column is a recurrence of its own
  float* const sums;    // [count, padded], of the pass forwards
  float* const values;  // [4, padded]: the last four
  PrismToken* const tokens;

  static size_t bytes(int64_t count, int64_t width) {
    const int64_t padded = padded_width(width);
    return sizeof(PrismToken) * 2 + sizeof(float) * static_cast<size_t>((width + count + 4) * padded);
  }

  PrismHead(const OsaRecurrenceTask& task, void* memory)
      : of(task), taps(of.call.weights + of.head * (OSA_PRISM_TAPS * of.width + 1)),
        keeping(taps[OSA_PRISM_TAPS * of.width]), state(reinterpret_cast<float*>(static_cast<PrismToken*>(memory) + 2)),
        sums(state + of.width * of.padded), values(sums + of.count * of.padded),
        tokens(static_cast<PrismToken*>(memory)) {}

  // Reads the token after `step` others of a pass.
  OSA_INLINE void prepare(int64_t step, bool back, PrismToken& to) const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t token = back ? of.count - 1 - step : step, padded = of.padded;
    of.ask_ahead(4, token, back);
    alignas(64) float numbers[OSA_VECTOR_BYTES / sizeof(float) < 8 ? 8 : W] = {}, left[WIDEST];
    const In* const given = of.at(4, token);
    numbers[0] = widen(given[0]) + keeping;
    for (int i = 1; i < 5; ++i) numbers[i] = widen(given[i]);
    for (int64_t i = 0; i < 5; i += W) store(numbers + i, sigmoid(load(numbers + i)));
    to.keep = numbers[0], to.rate = numbers[1];
    float* const own = values + (step & 3) * padded;
    of.read(1, token, own);
    for (int64_t j = 0; j < padded; j += W) store(left + j, load(own + j));
    for (int64_t o = 1; o <= smaller<int64_t>(OSA_PRISM_TAPS, step); ++o) {
      const float* const tap = taps + (OSA_PRISM_TAPS - o) * of.width;
      const float* const before = values + ((step - o) & 3) * padded;
      int64_t j = 0;
      for (; j + W <= of.width; j += W) store(left + j, load(left + j) - load(tap + j) * load(before + j));
      for (; j < of.width; ++j) left[j] -= tap[j] * before[j];
    }
    for (int l = 0; l < 2; ++l)
      for (int64_t j = 0; j < padded; j += W) {
        const Vector<float> rest = load(left + j), delta = exact_gelu(splat(2.0f * numbers[3 + l]) * rest);
        store(left + j, rest - delta);
        store(to.wanted[l] + j, splat(numbers[1 + l]) * delta);
      }
    unit(0, token, to.query), unit(2, token, to.first), unit(3, token, to.second);
  }

  OSA_INLINE void unit(int state, int64_t token, float* to) const {
    of.read(state, token, to);
    scale_row(to, of.padded, 1.0f / larger(__builtin_sqrtf(squared_length(to, of.padded)), 1e-12f));
  }

  // `Vectors` vectors of columns: the token's step, what it asks (R), and what the next one will find
  // along its first key; `found` holds that of this token before.
  template <int Vectors>
  OSA_INLINE void step_columns(const PrismToken& token, const float* next, int64_t column, float* found,
                               float* result) const {
    constexpr int64_t W = Simd<float>::width;
    Vector<float> first[Vectors], second[Vectors], asked[Vectors], ahead[Vectors];
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) {
      const int64_t at = column + v * W;
      first[v] = load(token.wanted[0] + at) - splat(token.keep * token.rate) * load(found + at);
      second[v] = load(token.wanted[1] + at);
      asked[v] = ahead[v] = Vector<float>{};
    }
    const Vector<float> keep = splat(token.keep);
    float* row = state + column;
    for (int64_t i = 0; i < of.width; ++i, row += of.padded) {
      const Vector<float> one = splat(token.first[i]), other = splat(token.second[i]);
      const Vector<float> query = splat(token.query[i]), later = splat(next[i]);
      OSA_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) {
        const Vector<float> now = keep * load(row + v * W) + one * first[v] + other * second[v];
        store(row + v * W, now);
        asked[v] += query * now;
        ahead[v] += later * now;
      }
    }
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) {
      store(result + column + v * W, asked[v]);
      store(found + column + v * W, ahead[v]);
    }
  }

  void pass(bool back) const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    alignas(64) float found[WIDEST], result[WIDEST];
    for (int64_t i = 0; i < of.width * padded; i += W) store(state + i, Vector<float>{});
    for (int64_t j = 0; j < padded; j += W) store(found + j, Vector<float>{});
    prepare(0, back, tokens[0]);
    for (int64_t step = 0; step < of.count; ++step) {
      const PrismToken& token = tokens[step & 1];
      if (step + 1 < of.count) prepare(step + 1, back, tokens[(step + 1) & 1]);
      const float* const next = tokens[(step + 1 < of.count ? step + 1 : step) & 1].first;
      int64_t column = 0;
      for (; column + 2 * W <= padded; column += 2 * W) step_columns<2>(token, next, column, found, result);
      for (; column < padded; column += W) step_columns<1>(token, next, column, found, result);
      float* const sum = sums + (back ? of.count - 1 - step : step) * padded;
      if (back)
        for (int64_t j = 0; j < padded; j += W) store(result + j, load(result + j) + load(sum + j));
      if (back) normalize_row(result, of.width, padded), of.write(result, of.count - 1 - step);
      else
        for (int64_t j = 0; j < padded; j += W) store(sum + j, load(result + j));
    }
  }
};

}  // namespace
#endif
