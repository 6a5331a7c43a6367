// One head of a mixer after CHELA over one packed sequence; see osa_recurrence.h.
#ifndef OSA_CHELA_KERNEL_H
#define OSA_CHELA_KERNEL_H

#include "product.h"
#include "recurrence.h"

namespace {

constexpr int64_t CHELA_ROWS = 14;  // of weights of a head
static_assert(OSA_CHELA_MODES == 2, "rows of weights");
constexpr int64_t CHELA_PANEL = 64;  // tokens of a product

template <class In>
struct ChelaHead {
  enum Weight { SHORT = 0, HERE = 3, DECAY = 4, EARLIER = 6, LATER = 8, SCALE = 10, SHIFT = 12 };

  const RecurrentHead<In> of;
  float* const own;     // [14, padded]
  float* const square;  // [head_dim, padded]: sums of keys times values
  float* const panel;   // [2, CHELA_PANEL, padded]
  float* const keys;    // [count, padded]: h, then keys
  float* const mixed;   // [count, padded]: z

  static size_t bytes(int64_t count, int64_t width) {
    return sizeof(float) * static_cast<size_t>((CHELA_ROWS + width + 2 * CHELA_PANEL + 2 * count) * padded_width(width));
  }

  ChelaHead(const OsaRecurrenceTask& task, void* memory)
      : of(task), own(static_cast<float*>(memory)), square(own + CHELA_ROWS * of.padded),
        panel(square + of.width * of.padded), keys(panel + 2 * CHELA_PANEL * of.padded),
        mixed(keys + of.count * of.padded) {
    const float* const weights = of.call.weights + of.head * CHELA_ROWS * of.width;
    for (int64_t row = 0; row < CHELA_ROWS; ++row)
      RecurrentHead<float>::read_numbers(weights + row * of.width, of.width, of.padded, own + row * of.padded);
  }

  OSA_INLINE Vector<float> weight(int64_t row, int64_t j) const { return load(own + row * of.padded + j); }

  // h, and z without what comes later.
  void forwards() const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    alignas(64) float rows[3][WIDEST] = {}, waves[OSA_CHELA_MODES][WIDEST] = {}, last[WIDEST] = {};
    of.read(0, 0, rows[1]);
    for (int64_t t = 0; t < of.count; ++t) {
      const float *const before = rows[t % 3], *const now = rows[(t + 1) % 3];
      float* const after = rows[(t + 2) % 3];
      of.ask_ahead(1, t, false);
      if (t + 1 < of.count) of.read(0, t + 1, after);
      for (int64_t j = 0; j < padded; j += W) {
        Vector<float> sum = weight(SHORT, j) * load(before + j) + weight(SHORT + 1, j) * load(now + j);
        if (t + 1 < of.count) sum += weight(SHORT + 2, j) * load(after + j);
        const Vector<float> h = silu(sum);
        Vector<float> z = weight(HERE, j) * h;
        for (int i = 0; i < OSA_CHELA_MODES; ++i) {
          const Vector<float> wave = weight(DECAY + i, j) * (load(waves[i] + j) + load(last + j));
          store(waves[i] + j, wave);
          z += weight(EARLIER + i, j) * wave;
        }
        store(last + j, h);
        store(keys + t * padded + j, h);
        store(mixed + t * padded + j, z);
      }
    }
  }

  // The rest of z, and keys in the place of h.
  void backwards() const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    alignas(64) float waves[OSA_CHELA_MODES][WIDEST] = {}, last[WIDEST] = {};
    for (int64_t t = of.count - 1; t >= 0; --t) {
      float *const key = keys + t * padded, *const sum = mixed + t * padded;
      for (int64_t j = 0; j < padded; j += W) {
        Vector<float> z = load(sum + j);
        for (int i = 0; i < OSA_CHELA_MODES; ++i) {
          const Vector<float> wave = weight(DECAY + i, j) * (load(waves[i] + j) + load(last + j));
          store(waves[i] + j, wave);
          z += weight(LATER + i, j) * wave;
        }
        store(last + j, load(key + j));
        store(sum + j, z);
        store(key + j, z * weight(SCALE + 1, j) + weight(SHIFT + 1, j));
      }
      normalize_row(key, of.width, padded);
    }
  }

  void sum_products() const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    for (int64_t i = 0; i < of.width * padded; i += W) store(square + i, Vector<float>{});
    for (int64_t from = 0; from < of.count; from += CHELA_PANEL) {
      const int64_t rows = smaller(CHELA_PANEL, of.count - from);
      for (int64_t r = 0; r < rows; ++r) of.read(1, from + r, panel + r * padded);
      Product<float> sum{of.width, padded, rows, keys + from * padded, 1, padded, panel, padded, square, padded};
      sum.first = square, sum.first_row = padded;
      multiply(sum);
    }
    scale_row(square, of.width * padded, 1.0f / static_cast<float>(of.count));
  }

  void apply() const {
    constexpr int64_t W = Simd<float>::width;
    const int64_t padded = of.padded;
    float* const results = panel + CHELA_PANEL * padded;
    alignas(64) float gates[WIDEST];
    for (int64_t from = 0; from < of.count; from += CHELA_PANEL) {
      const int64_t rows = smaller(CHELA_PANEL, of.count - from);
      for (int64_t r = 0; r < rows; ++r) {
        const float* const z = mixed + (from + r) * padded;
        for (int64_t j = 0; j < padded; j += W)
          store(panel + r * padded + j, load(z + j) * weight(SCALE, j) + weight(SHIFT, j));
        normalize_row(panel + r * padded, of.width, padded);
      }
      multiply(Product<float>{rows, padded, of.width, panel, padded, 1, square, padded, results, padded});
      for (int64_t r = 0; r < rows; ++r) {
        float* const result = results + r * padded;
        normalize_row(result, of.width, padded);
        of.read(2, from + r, gates);
        for (int64_t j = 0; j < padded; j += W) store(result + j, load(result + j) * silu(load(gates + j)));
        of.write(result, from + r);
      }
    }
  }
};

}  // namespace
#endif
