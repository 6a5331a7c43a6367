// Products of rows with packed weights on vector units.
//
// A panel is 32 outputs of a weight. Every sum is over all inputs in their order in one accumulator,
// so a row's bits do not depend on how many rows are computed beside it.
#ifndef OSA_PANELS_H
#define OSA_PANELS_H

#include "formats.h"

#if defined(__AVX512F__)
#define OSA_PANEL_ROWS 12
#define OSA_PANEL_VECTORS 2
#elif defined(__AVX__)
#define OSA_PANEL_ROWS 6
#define OSA_PANEL_VECTORS 2
#elif defined(__aarch64__)
#define OSA_PANEL_ROWS 6
#define OSA_PANEL_VECTORS 4
#else
#define OSA_PANEL_ROWS 4
#define OSA_PANEL_VECTORS 2
#endif

namespace {

constexpr int64_t WORD_BYTES = 4 * BLOCK;  // of a panel, for each word of inputs

// Rows that a product reads, one after the other or in blocks as tiles want them.
template <class Element>
struct Left {
  Element* data;
  int64_t width;
};

// A weight for `depth` inputs, of which the left side holds those from `start` on.
struct Right {
  const void* data;
  int64_t depth, start;
};

template <class Format>
struct Panels {
  typedef Format Of;
  struct Setting {};  // what a thread sets up before it multiplies
  typedef typename Format::Element Element;
  typedef typename Format::Sum Sum;
  static constexpr int64_t ROWS = OSA_PANEL_ROWS, MOST_ROWS = 96;  // that a thread takes at once

  static OSA_INLINE Element* at(const Left<Element>& rows, int64_t row, int64_t column) {
    return rows.data + row * rows.width + column;
  }
  static int64_t elements(int64_t rows, int64_t width) { return rows * width; }

  // For every block of 32 outputs from `first` on, every group of inputs and every row:
  // take(row, column, group, sums [32]).
  template <class Take>
  static OSA_INLINE void multiply(const Left<Element>& left, int64_t count, const Right& right, int64_t first,
                                  int64_t outputs, Sum* sums, const Take& take) {
    const int64_t group_size = Format::SCALED ? GROUP : left.width;
    const int64_t tiles = (count + ROWS - 1) / ROWS;
    const int64_t share = WORD_BYTES / tiles;
    const int64_t panel_bytes = right.depth / Format::WORD * WORD_BYTES;
    const char* panel = static_cast<const char*>(right.data) + first / BLOCK * panel_bytes;
    for (int64_t column = first; column < first + outputs; column += BLOCK, panel += panel_bytes) {
      for (int64_t from = 0; from < left.width; from += group_size) {
        const char* words = panel + (right.start + from) / Format::WORD * WORD_BYTES;
        const int64_t depth = smaller(group_size, left.width - from) / Format::WORD;
        for (int64_t tile = 0; tile < tiles; ++tile) {
          const int64_t row = tile * count / tiles, rows = (tile + 1) * count / tiles - row;
          const Fetch fetch{words + panel_bytes + tile * share * depth, share};
          some_rows<OSA_PANEL_ROWS>(rows, left.data + row * left.width + from, left.width, words, depth, fetch, sums);
          for (int64_t i = 0; i < rows; ++i) take(row + i, column, from / group_size, sums + i * BLOCK);
        }
      }
    }
  }

 private:
  // What comes after the panel in use: each step brings `share` bytes closer.
  struct Fetch {
    const char* next;
    int64_t share;
  };

  template <int Rows>
  static OSA_INLINE void some_rows(int64_t rows, const Element* left, int64_t left_row, const char* words,
                                   int64_t depth, const Fetch& fetch, Sum* sums) {
    if constexpr (Rows > 0) {
      if (rows < Rows) return some_rows<Rows - 1>(rows, left, left_row, words, depth, fetch, sums);
      for (int64_t column = 0; column < BLOCK; column += COLUMNS)
        tile<Rows>(left, left_row, words + 4 * column, depth, fetch, sums + column);
    }
  }

  static constexpr int VECTORS = OSA_PANEL_VECTORS;
  static constexpr int64_t COLUMNS = VECTORS * Simd<float>::width;

  template <int Rows>
  static __attribute__((noinline)) void tile(const Element* left, int64_t left_row, const char* words,
                                             int64_t depth, Fetch fetch, Sum* to) {
    Vector<Sum> sums[Rows][VECTORS] = {};
    for (int64_t k = 0; k < depth; ++k, words += WORD_BYTES, left += Format::WORD) {
      __builtin_prefetch(fetch.next, 0, 2);
      __builtin_prefetch(fetch.next + 64, 0, 2);
      fetch.next += fetch.share;
      OSA_UNROLL(4)
      for (int step = 0; step < Format::STEPS; ++step) {
        Vector<Sum> right[VECTORS];
        OSA_UNROLL(4)
        for (int v = 0; v < VECTORS; ++v) right[v] = Format::right(words + v * OSA_VECTOR_BYTES, step);
        OSA_UNROLL(16)
        for (int r = 0; r < Rows; ++r) {
          const auto factor = Format::left(left + r * left_row, step);
          OSA_UNROLL(4)
          for (int v = 0; v < VECTORS; ++v) Format::add(sums[r][v], factor, right[v]);
        }
      }
    }
    OSA_UNROLL(16)
    for (int r = 0; r < Rows; ++r) {
      OSA_UNROLL(4)
      for (int v = 0; v < VECTORS; ++v) store(to + r * BLOCK + v * Simd<float>::width, sums[r][v]);
    }
  }
};

}  // namespace
#endif
