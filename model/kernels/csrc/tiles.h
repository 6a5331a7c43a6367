// Stages one and three of bfloat16 operands on AMX tiles: 16 x 16 float32 sums of 32 products each.
//
// A tile product takes its right side as pairs of rows, side by side in 32 bits (see pairs.h), and its
// left side row by row: M^T of stage one is the pairs' transpose, M of stage three is read where the
// caller has it.
#ifndef OSA_TILES_H
#define OSA_TILES_H

#include "pairs.h"

#if defined(OSA_TILES)

namespace {

// Compilers take tile loads and stores for instructions that touch no memory: this keeps them where
// they are written.
OSA_INLINE void memory_is_settled() { __asm__ volatile("" ::: "memory"); }

enum class TileProduct { BFLOAT16, INT8 };

// The tile registers of this thread: eight of 16 rows of 64 bytes while it lives.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Shape {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    __asm__ volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;

  // C (32 x 32, in tiles 0 to 3) += A B over `steps` tile products. Strides in bytes. meanwhile(k) is
  // called after each: other work that the core does while the tiles compute.
  template <TileProduct Product = TileProduct::BFLOAT16, class Meanwhile>
  static OSA_INLINE void multiply(const void* a, int64_t a_row, int64_t a_step, const void* b,
                                  int64_t b_row, int64_t steps, const Meanwhile& meanwhile) {
    const char* left = static_cast<const char*>(a);
    const char* right = static_cast<const char*>(b);
    for (int64_t k = 0; k < steps; ++k, left += a_step, right += 16 * b_row) {
      _tile_loadd(4, left, a_row);
      _tile_loadd(6, right, b_row);
      _tile_loadd(7, right + 64, b_row);
      _tile_loadd(5, left + 16 * a_row, a_row);
      if constexpr (Product == TileProduct::INT8) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      } else {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      meanwhile(k);
    }
  }
  static OSA_INLINE void multiply(const void* a, int64_t a_row, int64_t a_step, const void* b,
                                  int64_t b_row, int64_t steps) {
    multiply(a, a_row, a_step, b, b_row, steps, [](int64_t) {});
  }
  static OSA_INLINE void clear() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  static OSA_INLINE void read(const float* c, int64_t row) {
    _tile_loadd(0, c, 4 * row);
    _tile_loadd(1, c + 16, 4 * row);
    _tile_loadd(2, c + 16 * row, 4 * row);
    _tile_loadd(3, c + 16 * row + 16, 4 * row);
  }
  template <class Sum>
  static OSA_INLINE void write(Sum* c, int64_t row) {
    _tile_stored(0, c, 4 * row);
    _tile_stored(1, c + 16, 4 * row);
    _tile_stored(2, c + 16 * row, 4 * row);
    _tile_stored(3, c + 16 * row + 16, 4 * row);
  }
};

// Memory of both stages, [float32]: the larger of pairs and left side, and weights and one block.
inline int64_t pair_scratch(int64_t d) {
  const int64_t reduce = PANEL / 2 * 3 * d + 2 * d * PANEL / 2;
  const int64_t apply = d * d + STEP * d + STEP * d;
  return larger(reduce, apply);
}

// [G | T] of `count` tokens, added to what is there unless `fresh`: of G the blocks on and above the
// diagonal.
inline void reduce_pairs(const Operands<bfloat16>& operands, int64_t start, int64_t count,
                            float* scratch, float* gram, bool fresh) {
  const int64_t d = operands.head_dim, row = 3 * d, half = PANEL / 2;
  uint32_t* pairs = reinterpret_cast<uint32_t*>(scratch);
  float* left = scratch + half * row;  // [2d, PANEL / 2] pairs
  const Tiles tiles;
  for (int64_t i = 0; fresh && i < 2 * d * row; i += 16) store(gram + i, Vector<float>{});
  for (int64_t done = 0; done < count; done += PANEL) {
    const int64_t steps = pair_tokens(operands, start + done, smaller(PANEL, count - done), pairs);
    transpose(scratch, row, left, half, 16 * steps, 2 * d);
    for (int64_t i = 0; i < 2 * d; i += 32)
      for (int64_t j = i; j < row; j += 32) {
        memory_is_settled();
        Tiles::read(gram + i * row + j, row);
        Tiles::multiply(left + i * half, 4 * half, 64, pairs + j, 4 * row, steps);
        Tiles::write(gram + i * row + j, row);
        memory_is_settled();
      }
  }
}

// Y = V + M W of `count` tokens.
inline void apply_pairs(const Operands<bfloat16>& operands, const float* weight, int64_t start,
                           int64_t count, float* scratch) {
  const int64_t d = operands.head_dim;
  uint32_t* pairs = reinterpret_cast<uint32_t*>(scratch);  // of the weights' rows [d, d]
  float* sums = scratch + d * d;                           // [32, d]
  bfloat16* rest = reinterpret_cast<bfloat16*>(sums + STEP * d);  // rows of M that are not there, or not in line [32, 2d]
  pair_weights(weight, d, pairs);
  const Tiles tiles;
  for (int64_t done = 0; done < count; done += STEP) {
    const int64_t block = smaller(STEP, count - done);
    const bfloat16 *query = operands.query[start + done], *key = operands.key[start + done];
    int64_t query_row = 2 * operands.query.stride, key_row = 2 * operands.key.stride;
    if (block < STEP || operands.sequence.tokens) {
      for (int64_t i = 0; i < STEP; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const bool real = i < block;
          rest[2 * i * d + j] = real ? operands.query[start + done + i][j] : bfloat16{0};
          rest[(2 * i + 1) * d + j] = real ? operands.key[start + done + i][j] : bfloat16{0};
        }
      query = rest, key = rest + d, query_row = key_row = 4 * d;
    }
    memory_is_settled();
    for (int64_t j = 0; j < d; j += 32) {
      Tiles::clear();
      Tiles::multiply(query, query_row, 64, pairs + j, 4 * d, d / STEP);
      Tiles::multiply(key, key_row, 64, pairs + d / 2 * d + j, 4 * d, d / STEP);
      Tiles::write(sums + j, d);
    }
    memory_is_settled();
    for (int64_t i = 0; i < block; ++i) {
      const bfloat16* value = operands.value[start + done + i];
      bfloat16* out = operands.output[start + done + i];
      for (int64_t j = 0; j < d; ++j) narrow(widen(value[j]) + sums[i * d + j], out + j);
    }
  }
}

}  // namespace
#endif  // OSA_TILES
#endif
