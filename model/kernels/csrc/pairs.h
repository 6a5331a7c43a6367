// Stages one and three of bfloat16 operands where the instruction set multiplies pairs of them: two
// rows side by side in 32 bits. Stage one sums over tokens, so pairs are neighbouring tokens; stage
// three sums over features, and reads pairs of them where the caller has them.
#ifndef OSA_PAIRS_H
#define OSA_PAIRS_H

#include "operands.h"
#include "product.h"

#if defined(__AVX512BF16__)
#define OSA_PAIRS 1

namespace {

constexpr int64_t PANEL = 256;  // tokens that are paired at once
constexpr int64_t STEP = 32;    // tokens, or features, of one tile product

inline bool pairs_fit(const Operands<bfloat16>& operands) {
  return !operands.call.center && operands.head_dim % STEP == 0;
}

typedef uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t WordsValue __attribute__((vector_size(64)));

OSA_INLINE WordsValue words_of(const bfloat16* row) {
  return __builtin_convertvector(*reinterpret_cast<const Halves*>(row), WordsValue);
}

// [low | high << 16] of two rows, or of one and zeros.
inline void pair_rows(const bfloat16* low, const bfloat16* high, int64_t width, uint32_t* to) {
  for (int64_t j = 0; j < width; j += 16) {
    WordsValue pair = words_of(low + j);
    if (high) pair |= words_of(high + j) << 16;
    *reinterpret_cast<Words*>(to + j) = pair;
  }
}

// Pairs of `count` tokens from `start` on, [steps * 16, 3d], zero beyond them; returns the steps.
inline int64_t pair_tokens(const Operands<bfloat16>& from, int64_t start, int64_t count, uint32_t* pairs) {
  const int64_t d = from.head_dim, steps = (count + STEP - 1) / STEP;
  const Rows<bfloat16> parts[] = {from.query, from.key, from.value};
  for (int64_t pair = 0; pair < steps * STEP / 2; ++pair, pairs += 3 * d) {
    const int64_t token = 2 * pair;
    if (token >= count) {
      for (int64_t j = 0; j < 3 * d; j += 16) *reinterpret_cast<Words*>(pairs + j) = WordsValue{};
      continue;
    }
    for (int part = 0; part < 3; ++part) {
      const bfloat16* low = parts[part][start + token];
      pair_rows(low, token + 1 < count ? parts[part][start + token + 1] : nullptr, d, pairs + part * d);
    }
  }
  return steps;
}

// Pairs of the rows of W [2d, d], rounded: [d, d].
inline void pair_weights(const float* weight, int64_t d, uint32_t* pairs) {
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = 0; j < d; ++j) {
      bfloat16 low, high;
      narrow(weight[2 * i * d + j], &low), narrow(weight[(2 * i + 1) * d + j], &high);
      pairs[i * d + j] = low.bits | static_cast<uint32_t>(high.bits) << 16;
    }
}

#if !defined(OSA_TILES)

constexpr int PAIR_ROWS = 8;

OSA_INLINE Vector<float> add_pairs(Vector<float> sum, Bits left, Bits right) {
  return as<Vector<float>>(_mm512_dpbf16_ps(as<__m512>(sum), as<__m512bh>(left), as<__m512bh>(right)));
}
OSA_INLINE Bits both_of(const void* pair) {
  uint32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  return Bits{} + bits;
}
OSA_INLINE Bits pairs_at(const uint32_t* from) {
  return as<Bits>(load(reinterpret_cast<const float*>(from)));
}

// Memory of both stages, [float32]: pairs of a panel, or of the weights.
inline int64_t pair_scratch(int64_t d) { return larger(PANEL / 2 * 3 * d, d * d); }

// PAIR_ROWS rows of [G | T] from `row` on, and Vectors vectors of columns: += sums over `count` pairs.
template <int Vectors>
OSA_INLINE void reduce_block(const uint32_t* pairs, int64_t count, int64_t width, int64_t row, int64_t column,
                             float* gram) {
  constexpr int64_t W = Simd<float>::width;
  Vector<float> sums[PAIR_ROWS][Vectors];
  float* const to = gram + row * width + column;
  OSA_UNROLL(8)
  for (int r = 0; r < PAIR_ROWS; ++r) {
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) sums[r][v] = load(to + r * width + v * W);
  }
  for (int64_t pair = 0; pair < count; ++pair, pairs += width) {
    Bits right[Vectors];
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) right[v] = pairs_at(pairs + column + v * W);
    OSA_UNROLL(8)
    for (int r = 0; r < PAIR_ROWS; ++r) {
      const Bits left = both_of(pairs + row + r);
      OSA_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) sums[r][v] = add_pairs(sums[r][v], left, right[v]);
    }
  }
  OSA_UNROLL(8)
  for (int r = 0; r < PAIR_ROWS; ++r) {
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) store(to + r * width + v * W, sums[r][v]);
  }
}

// [G | T] of `count` tokens, added to what is there unless `fresh`: of G the blocks on and above the
// diagonal.
inline void reduce_pairs(const Operands<bfloat16>& operands, int64_t start, int64_t count, float* scratch,
                         float* gram, bool fresh) {
  constexpr int64_t W = Simd<float>::width;
  const int64_t d = operands.head_dim, width = 3 * d;
  uint32_t* const pairs = reinterpret_cast<uint32_t*>(scratch);
  for (int64_t i = 0; fresh && i < 2 * d * width; i += W) store(gram + i, Vector<float>{});
  for (int64_t done = 0; done < count; done += PANEL) {
    const int64_t tokens = smaller(PANEL, count - done);
    pair_tokens(operands, start + done, tokens, pairs);
    for (int64_t row = 0; row < 2 * d; row += PAIR_ROWS) {
      int64_t column = row / W * W;
      for (; column + 3 * W <= width; column += 3 * W)
        reduce_block<3>(pairs, (tokens + 1) / 2, width, row, column, gram);
      for (; column < width; column += W) reduce_block<1>(pairs, (tokens + 1) / 2, width, row, column, gram);
    }
  }
}

// Y = V + M W of Rows tokens from `token` on, and Vectors vectors of columns.
template <int Rows, int Vectors>
OSA_INLINE void apply_block(const Operands<bfloat16>& operands, const uint32_t* pairs, int64_t token,
                            int64_t column) {
  constexpr int64_t W = Simd<float>::width;
  const int64_t d = operands.head_dim;
  Vector<float> sums[Rows][Vectors] = {};
  for (int part = 0; part < 2; ++part) {
    const bfloat16* rows[Rows];
    OSA_UNROLL(8)
    for (int r = 0; r < Rows; ++r) rows[r] = (part ? operands.key : operands.query)[token + r];
    const uint32_t* weights = pairs + part * d / 2 * d + column;
    for (int64_t pair = 0; pair < d / 2; ++pair, weights += d) {
      Bits right[Vectors];
      OSA_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) right[v] = pairs_at(weights + v * W);
      OSA_UNROLL(8)
      for (int r = 0; r < Rows; ++r) {
        const Bits left = both_of(rows[r] + 2 * pair);
        OSA_UNROLL(4)
        for (int v = 0; v < Vectors; ++v) sums[r][v] = add_pairs(sums[r][v], left, right[v]);
      }
    }
  }
  OSA_UNROLL(8)
  for (int r = 0; r < Rows; ++r) {
    OSA_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) {
      const int64_t at = column + v * W;
      narrow_vector(widen_vector(operands.value[token + r] + at) + sums[r][v], operands.output[token + r] + at);
    }
  }
}

// Y = V + M W of `count` tokens.
inline void apply_pairs(const Operands<bfloat16>& operands, const float* weight, int64_t start, int64_t count,
                        float* scratch) {
  constexpr int64_t W = Simd<float>::width;
  uint32_t* const pairs = reinterpret_cast<uint32_t*>(scratch);
  pair_weights(weight, operands.head_dim, pairs);
  const int64_t stop = start + count;
  for (int64_t column = 0; column < operands.head_dim; column += 2 * W) {
    int64_t token = start;
    for (; token + PAIR_ROWS <= stop; token += PAIR_ROWS)
      apply_block<PAIR_ROWS, 2>(operands, pairs, token, column);
    for (; token < stop; ++token) apply_block<1, 2>(operands, pairs, token, column);
  }
}

#endif  // tiles have their own

}  // namespace
#endif
#endif
