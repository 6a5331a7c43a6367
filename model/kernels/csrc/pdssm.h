// One head of PD-SSM over one packed sequence; see osa_recurrence.h.
#ifndef OSA_PDSSM_KERNEL_H
#define OSA_PDSSM_KERNEL_H

#include "recurrence.h"

namespace {

// Sine and cosine, within 2 ulp of 1 up to 2^15 quarter turns; NaN stays.
OSA_INLINE void sine_and_cosine(Vector<float> angle, Vector<float>* sine, Vector<float>* cosine) {
  const Vector<float> rounding = splat(12582912.0f);  // 1.5 * 2^23: sums round to integers
  const Vector<float> shifted = angle * splat(0.636619772367581343f) + rounding;
  const Vector<float> turns = shifted - rounding;  // quarter turns
  const Vector<float> x =
      ((angle - turns * splat(1.5703125f)) - turns * splat(4.837512969970703125e-4f)) - turns * splat(7.549789954e-8f);
  const Vector<float> z = x * x;
  const Vector<float> s =
      x + x * z * ((splat(-1.9515295891e-4f) * z + splat(8.3321608736e-3f)) * z - splat(1.6666654611e-1f));
  const Vector<float> c = splat(1.0f) - splat(0.5f) * z +
                          z * z * ((splat(2.443315711809948e-5f) * z - splat(1.388731625493765e-3f)) * z +
                                   splat(4.166664568298827e-2f));
  const Bits quarter = bits_of(shifted);
  const Bits none{}, odd = none - (quarter & 1u);  // all bits where the two change places
  const Bits sines = (bits_of(s) & ~odd) | (bits_of(c) & odd), cosines = (bits_of(c) & ~odd) | (bits_of(s) & odd);
  *sine = from_bits(sines ^ ((quarter & 2u) << 30));
  *cosine = from_bits(cosines ^ (((quarter + 1u) & 2u) << 30));
}

template <class In>
struct PdssmHead {
  const RecurrentHead<In> of;
  const float* const weights;  // of this head
  float* const matrices;       // [4, row, padded column]
  float* const own;            // [6, padded]: moduli, angles, reads
  float* const sums;           // [count, padded], of the pass forwards
  uint8_t* const places;       // [count, padded]

  static size_t bytes(int64_t count, int64_t width) {
    const int64_t padded = padded_width(width);
    return sizeof(float) * static_cast<size_t>((OSA_PDSSM_MATRICES * width + 6 + count) * padded) +
           static_cast<size_t>(count * padded);
  }

  PdssmHead(const OsaRecurrenceTask& task, void* memory)
      : of(task),
        weights(of.call.weights + of.head * (OSA_PDSSM_MATRICES * of.width * of.width + 6 * of.width)),
        matrices(static_cast<float*>(memory)), own(matrices + OSA_PDSSM_MATRICES * of.width * of.padded),
        sums(own + 6 * of.padded), places(reinterpret_cast<uint8_t*>(sums + of.count * of.padded)) {
    const int64_t rows = OSA_PDSSM_MATRICES * of.width;
    for (int64_t row = 0; row < rows + 6; ++row)
      RecurrentHead<float>::read_numbers(weights + row * of.width, of.width, of.padded, matrices + row * of.padded);
  }

  OSA_INLINE const float* numbers(int64_t index) const { return own + index * of.padded; }

  // Where the components of a token go.
  OSA_INLINE void choose(int64_t token) const {
    constexpr int64_t W = Simd<float>::width;
    static_assert(OSA_PDSSM_MATRICES == 4, "numbers of a vector");
    const In* const given = of.at(4, token);
    alignas(64) float mix[W] = {};
    float largest = widen(given[0]), total = 0.0f;
    for (int i = 0; i < 4; ++i) mix[i] = widen(given[i]), largest = larger(largest, mix[i]);
    store(mix, weight_of(load(mix) - splat(largest)));
    for (int i = 0; i < 4; ++i) total += mix[i];
    const Vector<float> one = splat(mix[0] / total), two = splat(mix[1] / total), three = splat(mix[2] / total),
                        four = splat(mix[3] / total);
    const int64_t part = of.width * of.padded;
    for (int64_t column = 0; column < of.padded; column += W) {
      const float* at = matrices + column;
      Vector<float> most = splat(-__builtin_inff());
      Bits place{};
      for (int64_t row = 0; row < of.width; ++row, at += of.padded) {
        const Vector<float> value =
            one * load(at) + two * load(at + part) + three * load(at + 2 * part) + four * load(at + 3 * part);
        place = value > most ? Bits{} + static_cast<uint32_t>(row) : place;
        most = value > most ? value : most;
      }
      uint8_t* const to = places + token * of.padded + column;
      OSA_UNROLL(16)
      for (int64_t lane = 0; lane < W; ++lane) to[lane] = static_cast<uint8_t>(place[lane]);
    }
  }

  void pass(bool back) const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    alignas(64) float real[2][WIDEST], imaginary[2][WIDEST], moved_real[WIDEST], moved_imaginary[WIDEST];
    alignas(64) float modulus[WIDEST], angle[WIDEST], result[WIDEST];
    for (int64_t j = 0; j < padded; j += W) store(real[0] + j, Vector<float>{}), store(imaginary[0] + j, Vector<float>{});
    for (int64_t step = 0; step < of.count; ++step) {
      const int64_t token = back ? of.count - 1 - step : step;
      of.ask_ahead(4, token, back);
      float *const old_real = real[step & 1], *const old_imaginary = imaginary[step & 1];
      float *const new_real = real[~step & 1], *const new_imaginary = imaginary[~step & 1];
      if (!back) choose(token);
      of.read(0, token, new_real), of.read(1, token, new_imaginary);
      of.read(2, token, modulus), of.read(3, token, angle);
      for (int64_t j = 0; j < padded; j += W) {
        Vector<float> sine, cosine;
        const Vector<float> size = sigmoid(load(modulus + j) + load(numbers(0) + j));
        sine_and_cosine(load(angle + j) * load(numbers(1) + j), &sine, &cosine);
        const Vector<float> by = size * cosine, turned = size * sine;
        const Vector<float> left = load(old_real + j), right = load(old_imaginary + j);
        store(moved_real + j, by * left - turned * right);
        store(moved_imaginary + j, by * right + turned * left);
      }
      const uint8_t* const to = places + token * padded;
      for (int64_t j = 0; j < of.width; ++j) {
        new_real[to[j]] += moved_real[j];
        new_imaginary[to[j]] += moved_imaginary[j];
      }
      const float *const first = numbers(back ? 4 : 2), *const second = numbers(back ? 5 : 3);
      float* const sum = sums + token * padded;
      for (int64_t j = 0; j < padded; j += W) {
        const Vector<float> found = load(first + j) * load(new_real + j) - load(second + j) * load(new_imaginary + j);
        if (back) store(result + j, load(sum + j) + found);
        else store(sum + j, found);
      }
      if (back) normalize_row(result, of.width, padded), of.write(result, token);
    }
  }
};

}  // namespace
#endif
