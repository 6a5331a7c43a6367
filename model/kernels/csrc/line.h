// Lines of 32 numbers, the columns that a product yields at once, on vectors of any width.
#ifndef OSA_LINE_H
#define OSA_LINE_H

#include "simd.h"

namespace {

constexpr int64_t BLOCK = 32;

struct Line {
  static constexpr int PARTS = BLOCK / Simd<float>::width;
  Vector<float> part[PARTS];
};

template <class Change>
OSA_INLINE Line changed(const Line& line, const Change& change) {
  Line result;
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) result.part[i] = change(line.part[i]);
  return result;
}
OSA_INLINE Line operator+(Line left, const Line& right) {
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) left.part[i] += right.part[i];
  return left;
}
OSA_INLINE Line operator-(Line left, const Line& right) {
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) left.part[i] -= right.part[i];
  return left;
}
OSA_INLINE Line operator*(Line left, const Line& right) {
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) left.part[i] *= right.part[i];
  return left;
}
OSA_INLINE Line all(float value) {
  Line line;
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) line.part[i] = splat(value);
  return line;
}

OSA_INLINE Vector<float> load_floats(const float* from) { return load(from); }
OSA_INLINE Vector<float> load_floats(const int32_t* from) {
  return __builtin_convertvector(load(from), Vector<float>);
}
OSA_INLINE Vector<float> load_floats(const bfloat16* from) { return widen_vector(from); }
OSA_INLINE void store_floats(float* to, Vector<float> value) { store(to, value); }
OSA_INLINE void store_floats(bfloat16* to, Vector<float> value) { narrow_vector(value, to); }

template <class T>
OSA_INLINE Line read_line(const T* from) {
  Line line;
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) line.part[i] = load_floats(from + i * Simd<float>::width);
  return line;
}
template <class T>
OSA_INLINE void write_line(T* to, const Line& line) {
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) store_floats(to + i * Simd<float>::width, line.part[i]);
}

// Sum of all numbers, in one order.
OSA_INLINE float total_of(const Line& line) {
  Vector<float> sum = line.part[0];
  OSA_UNROLL(8)
  for (int i = 1; i < Line::PARTS; ++i) sum += line.part[i];
  return sum_lanes(sum);
}

}  // namespace
#endif
