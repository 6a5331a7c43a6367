// Elementary functions of vectors, for one instruction set.
#ifndef OSA_ELEMENTARY_H
#define OSA_ELEMENTARY_H

#include "simd.h"

namespace {

// e^x for x <= 0 within 2 ulp; 0 below -87.
OSA_INLINE Vector<float> exp_negative(Vector<float> x) {
  typedef int32_t Integers __attribute__((vector_size(OSA_VECTOR_BYTES)));
  const Vector<float> least = splat(-87.0f), none{};
  const Vector<float> rounding = splat(12582912.0f);  // 1.5 * 2^23: sums round to integers
  const Vector<float> shifted = x * splat(1.44269504088896341f) + rounding;
  const Vector<float> whole = shifted - rounding;
  const Vector<float> rest = (x - whole * splat(0.693359375f)) - whole * splat(-2.12194440e-4f);
  constexpr float terms[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                             1.6666665459e-1f, 5.0000001201e-1f};
  Vector<float> sum = splat(1.9875691500e-4f);
  OSA_UNROLL(8)
  for (const float term : terms) sum = sum * rest + splat(term);
  const Vector<float> grown = sum * (rest * rest) + rest + splat(1.0f);
  const Integers bits = as<Integers>(grown) +
                        (as<Integers>(shifted) << 23);
  return x < least ? none : as<Vector<float>>(bits);
}

// x Phi(x); Phi(x) - 1/2 is odd: a polynomial fitted for |x| <= 4.5, where it is almost 1/2.
OSA_INLINE Vector<float> gelu(Vector<float> x) {
  constexpr float terms[] = {-3.3146645428416832e-09f, 1.5909986927908903e-07f, -4.451732820598409e-06f,
                             8.142520528053865e-05f,   -1.037591602653265e-03f, 9.585203602910042e-03f,
                             -6.598465889692307e-02f,  3.987126052379608e-01f};
  const Vector<float> most = splat(4.5f), none{};
  Vector<float> near = x > most ? most : x;
  near = near < none - most ? none - most : near;
  const Vector<float> square = near * near;
  Vector<float> sum = splat(3.0364235431568076e-11f);
  OSA_UNROLL(8)
  for (const float term : terms) sum = sum * square + splat(term);
  return x * (near * sum + splat(0.5f));
}

OSA_INLINE Vector<float> relu(Vector<float> x) {
  const Vector<float> none{};
  return x < none ? none : x;  // NaN stays
}

// x Phi(x) by Abramowitz and Stegun's 7.1.26, of which erf is within 1.5e-7; as torch has it.
OSA_INLINE Vector<float> exact_gelu(Vector<float> x) {
  const Vector<float> none{}, one = splat(1.0f);
  const Vector<float> root = x * splat(0.70710678118654752f);
  const Vector<float> size = root < none ? none - root : root;
  const Vector<float> t = one / (one + splat(0.3275911f) * size);
  constexpr float terms[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  Vector<float> sum = splat(1.061405429f);
  OSA_UNROLL(8)
  for (const float term : terms) sum = sum * t + splat(term);
  const Vector<float> tail = sum * t * exp_negative(none - size * size);  // 1 - erf(size)
  const Vector<float> share = x < none ? tail : splat(2.0f) - tail;       // 1 + erf(root)
  return x * share * splat(0.5f);
}

// x / (1 + e^-t).
OSA_INLINE Vector<float> gate(Vector<float> x, Vector<float> t) {
  const Vector<float> none{}, one = splat(1.0f);
  const Vector<float> low = exp_negative(t < none ? t : none - t);
  return x * ((t < none ? low : one) / (one + low));
}
OSA_INLINE Vector<float> silu(Vector<float> x) { return gate(x, x); }
OSA_INLINE Vector<float> gelu_tanh(Vector<float> x) {
  return gate(x, x * (splat(1.5957691216057308f) + splat(0.07135481627260025f) * (x * x)));
}

}  // namespace
#endif
