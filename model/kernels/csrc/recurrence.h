// Rows of one head of one packed sequence, for mixers whose tokens follow one another; see osa_recurrence.h.
#ifndef OSA_RECURRENCE_ROWS_H
#define OSA_RECURRENCE_ROWS_H

#include "backend.h"
#include "completion.h"
#include "elementary.h"
#include "rows.h"

namespace {

constexpr int64_t WIDEST = 128;  // head
constexpr int64_t AHEAD = 8;     // tokens

OSA_INLINE int64_t padded_width(int64_t head_dim) { return round_up(head_dim, Simd<float>::width); }

// 1 / (1 + e^-x); NaN stays.
OSA_INLINE Vector<float> sigmoid(Vector<float> x) {
  return x == x ? gate(splat(1.0f), x) : x;
}

template <class In>
struct RecurrentHead {
  const OsaRecurrenceCall& call;
  const int64_t head, first, count, width, padded;

  explicit RecurrentHead(const OsaRecurrenceTask& task)
      : call(*task.call), head(task.head), first(task.first), count(task.count), width(call.head_dim),
        padded(padded_width(call.head_dim)) {}

  const In* at(int state, int64_t token) const { return static_cast<const In*>(place(call.states[state], token)); }

  // A row in float32, with zeros up to a whole vector.
  OSA_INLINE void read(int state, int64_t token, float* to) const { read_numbers(at(state, token), width, padded, to); }
  OSA_INLINE void write(const float* from, int64_t token) const {
    constexpr int64_t W = Simd<float>::width;
    In* const to = static_cast<In*>(place(call.output, token));
    int64_t j = 0;
    for (; j + W <= width; j += W) write_vector(load(from + j), to + j);
    for (; j < width; ++j) narrow(from[j], to + j);
  }

  // Asks for the rows of all `states` that are read AHEAD tokens later: rows of one head lie a whole token
  // apart, which hardware does not foresee.
  OSA_INLINE void ask_ahead(int states, int64_t token, bool back) const {
    const int64_t later = back ? token - AHEAD : token + AHEAD;
    if (later < 0 || later >= count) return;
    const int64_t bytes = width * static_cast<int64_t>(sizeof(In));
    for (int state = 0; state < states; ++state)
      for (int64_t line = 0; line < bytes; line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(at(state, later)) + line, 0, 3);
  }

  static OSA_INLINE void read_numbers(const In* from, int64_t count, int64_t padded, float* to) {
    constexpr int64_t W = Simd<float>::width;
    int64_t j = 0;
    for (; j + W <= count; j += W) store(to + j, read_vector(from + j));
    for (; j < count; ++j) to[j] = widen(from[j]);
    for (; j < padded; ++j) to[j] = 0.0f;
  }

 private:
  In* place(const OsaTensor& tensor, int64_t token) const {
    return static_cast<In*>(tensor.data) + head * tensor.head_stride + (first + token) * tensor.token_stride;
  }
};

// The sum of squares of a padded row, and such a row divided by the root of its mean square.
OSA_INLINE float squared_length(const float* row, int64_t padded) {
  constexpr int64_t W = Simd<float>::width;
  Vector<float> sum{};
  for (int64_t j = 0; j < padded; j += W) sum += load(row + j) * load(row + j);
  return sum_lanes(sum);
}
OSA_INLINE void scale_row(float* row, int64_t padded, float by) {
  constexpr int64_t W = Simd<float>::width;
  for (int64_t j = 0; j < padded; j += W) store(row + j, load(row + j) * splat(by));
}
OSA_INLINE void normalize_row(float* row, int64_t width, int64_t padded) {
  scale_row(row, padded, inverse_root(squared_length(row, padded), width, OSA_RESULT_EPSILON));
}

}  // namespace
#endif
