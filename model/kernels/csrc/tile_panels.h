// Products of rows with packed weights on AMX tiles: 32 rows by 32 outputs.
#ifndef OSA_TILE_PANELS_H
#define OSA_TILE_PANELS_H

#include "panels.h"
#include "tiles.h"

#if defined(OSA_TILES)

namespace {

struct TileBfloat16 : Bfloat16 {
  static constexpr TileProduct PRODUCT = TileProduct::BFLOAT16;
};

struct TileInt8 {
  typedef bfloat16 State;
  typedef int8_t Element;
  typedef int32_t Sum;
  static constexpr int64_t WORD = 4;
  static constexpr bool SCALED = true;
  static constexpr int32_t OFFSET = 0;
  static constexpr TileProduct PRODUCT = TileProduct::INT8;
  static OSA_INLINE Vector<float> activate_gelu(Vector<float> x) { return gelu(x); }
};

// As Panels. Rows lie as tiles are loaded: [rows / 32][width / STEP][32][STEP], lines of 64 bytes.
template <class Format>
struct TilePanels {
  typedef Format Of;
  typedef Tiles Setting;
  typedef typename Format::Element Element;
  typedef typename Format::Sum Sum;
  static constexpr int64_t ROWS = BLOCK, MOST_ROWS = 256;
  static constexpr int64_t STEP = 64 / sizeof(Element), CELL = BLOCK * BLOCK;

  static OSA_INLINE Element* at(const Left<Element>& rows, int64_t row, int64_t column) {
    return rows.data + row / BLOCK * BLOCK * rows.width + column / STEP * STEP * BLOCK + row % BLOCK * STEP +
           column % STEP;
  }
  static int64_t elements(int64_t rows, int64_t width) { return round_up(rows, BLOCK) * width; }

  // While the tiles compute a block, the one before is taken, and the weights after it are fetched.
  template <class Take>
  static OSA_INLINE void multiply(const Left<Element>& left, int64_t count, const Right& right, int64_t first,
                                  int64_t outputs, Sum* sums, const Take& take) {
    const int64_t group_size = Format::SCALED ? GROUP : left.width, blocks = (count + BLOCK - 1) / BLOCK;
    const int64_t lines = (BLOCK + blocks - 1) / blocks;  // of the next weights, a step
    const int64_t panel_bytes = right.depth / Format::WORD * WORD_BYTES;
    const char* panel = static_cast<const char*>(right.data) + first / BLOCK * panel_bytes;
    Sum *current = sums, *before = sums + CELL;
    int64_t last_row = 0, last_column = -1, last_group = 0;
    // One function for all lines: compiled twice, it might round twice.
    const auto take_line = [&](int64_t used) __attribute__((noinline)) {
      take(last_row + used, last_column, last_group, before + used * BLOCK);
    };
    memory_is_settled();
    for (int64_t column = first; column < first + outputs; column += BLOCK, panel += panel_bytes) {
      for (int64_t from = 0; from < left.width; from += group_size) {
        const char* const words = panel + (right.start + from) / Format::WORD * WORD_BYTES;
        const int64_t steps = smaller(group_size, left.width - from) / STEP;
        const char* next = words + panel_bytes;
        for (int64_t row = 0; row < count; row += BLOCK) {
          int64_t used = last_column < 0 ? BLOCK : 0;
          Tiles::clear();
          Tiles::multiply<Format::PRODUCT>(at(left, row, from), 64, 64 * BLOCK, words, WORD_BYTES, steps,
                                           [&](int64_t step) {
            for (int64_t line = 0; line < lines; ++line, next += 64) __builtin_prefetch(next, 0, 2);
            for (; used * steps < (step + 1) * BLOCK; ++used) take_line(used);
          });
          Tiles::write(current, BLOCK);
          memory_is_settled();
          Sum* const swapped = current;
          current = before, before = swapped;
          last_row = row, last_column = column, last_group = from / group_size;
        }
      }
    }
    for (int64_t used = 0; used < BLOCK; ++used) take_line(used);
    memory_is_settled();
  }
};

}  // namespace
#endif
#endif
