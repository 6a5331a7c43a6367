// Matrix products of small matrices in cache, and their transposes.
//
// Every element of a product is summed over the inner dimension in order, in one accumulator, so
// its bits do not depend on the tile that it falls into.
#ifndef OSA_PRODUCT_H
#define OSA_PRODUCT_H

#include "simd.h"

namespace {

// C = scale A B + first_factor First + second_factor Second.
// A is rows x depth with any strides, the others are row-major; columns is a multiple of the vector
// width. First or Second may be C itself.
template <class T>
struct Product {
  int64_t rows, columns, depth;
  const T* a;
  int64_t a_row, a_column;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  T scale = T(1);
  const T* first = nullptr;
  int64_t first_row = 0;
  T first_factor = T(1);
  const T* second = nullptr;
  int64_t second_row = 0;
  T second_factor = T(1);
  bool past_caches = false;  // C is aligned to vectors and not read soon
};

// Rows that will be needed soon, asked for line by line while products are computed: rows of one
// head lie a whole token apart, which hardware does not foresee, and many requests at once stall.
struct Ahead {
  const char* rows[3] = {};  // of the next token in three operands
  int64_t strides[3] = {};   // [bytes]
  int64_t tokens = 0;        // left
  int64_t lines = 0;         // of a row
  int64_t part = 0, line = 0;

  OSA_INLINE void step() {
    if (!tokens) return;
    __builtin_prefetch(rows[part] + 64 * line, 0, 2);
    if (++line == lines) next_row();
  }

 private:
  void next_row() {
    line = 0;
    if (++part < 3) return;
    part = 0;
    --tokens;
    for (int i = 0; i < 3; ++i) rows[i] += strides[i];
  }
};

template <class T, int Rows, int Vectors>
OSA_INLINE void product_tile(const Product<T>& p, int64_t row, int64_t column, Ahead& ahead) {
  constexpr int64_t W = Simd<T>::width;
  Vector<T> sums[Rows][Vectors] = {};
  const T* a = p.a + row * p.a_row;
  const T* b = p.b + column;
  const int64_t a_row = p.a_row, a_column = p.a_column, b_row = p.b_row;
  const auto add = [&]() __attribute__((always_inline)) {
    Vector<T> rhs[Vectors];
    OSA_UNROLL(8)
    for (int v = 0; v < Vectors; ++v) rhs[v] = load(b + v * W);
    OSA_UNROLL(8)
    for (int r = 0; r < Rows; ++r) {
      const Vector<T> lhs = splat(a[r * a_row]);
      OSA_UNROLL(8)
      for (int v = 0; v < Vectors; ++v) sums[r][v] += lhs * rhs[v];
    }
    a += a_column;
    b += b_row;
  };
  for (int64_t k = p.depth / 2; k > 0; --k) {
    ahead.step();
    add();
    add();
  }
  if (p.depth & 1) add();
  OSA_UNROLL(8)
  for (int r = 0; r < Rows; ++r) {
    OSA_UNROLL(8)
    for (int v = 0; v < Vectors; ++v) {
      const int64_t at = column + v * W;
      Vector<T> sum = sums[r][v] * splat(p.scale);
      if (p.first) sum += splat(p.first_factor) * load(p.first + (row + r) * p.first_row + at);
      if (p.second) sum += splat(p.second_factor) * load(p.second + (row + r) * p.second_row + at);
      T* const to = p.c + (row + r) * p.c_row + at;
      p.past_caches ? store_past_caches(to, sum) : store(to, sum);
    }
  }
}

template <class T, int Vectors>
void product_columns(const Product<T>& p, int64_t column, Ahead& ahead) {
  int64_t row = 0;
  for (; row + OSA_TILE_ROWS <= p.rows; row += OSA_TILE_ROWS)
    product_tile<T, OSA_TILE_ROWS, Vectors>(p, row, column, ahead);
  if (OSA_TILE_ROWS > 4 && row + 4 <= p.rows) product_tile<T, 4, Vectors>(p, row, column, ahead), row += 4;
  if (row + 2 <= p.rows) product_tile<T, 2, Vectors>(p, row, column, ahead), row += 2;
  if (row < p.rows) product_tile<T, 1, Vectors>(p, row, column, ahead);
}

template <class T>
void multiply(const Product<T>& p, Ahead& ahead) {
  constexpr int64_t W = Simd<T>::width;
  int64_t column = 0, left = p.columns / W;
  for (; left > 4 || left == 3; left -= 3, column += 3 * W) product_columns<T, 3>(p, column, ahead);
  for (; left >= 2; left -= 2, column += 2 * W) product_columns<T, 2>(p, column, ahead);
  if (left) product_columns<T, 1>(p, column, ahead);
}
template <class T>
void multiply(const Product<T>& p) {
  Ahead nothing;
  multiply(p, nothing);
}

// Exchanges the off-diagonal squares of size Half of each pair of rows that are Half apart.
template <class T, int Half, int... Lanes>
OSA_INLINE void exchange(Vector<T>* rows, LaneList<Lanes...>) {
  constexpr int W = sizeof...(Lanes);
  OSA_UNROLL(16)
  for (int i = 0; i < W; ++i) {
    if (i & Half) continue;
    const Vector<T> upper = rows[i], lower = rows[i + Half];
    rows[i] = choose_lanes<T, (Lanes & Half ? W + Lanes - Half : Lanes)...>(upper, lower);
    rows[i + Half] = choose_lanes<T, (Lanes & Half ? W + Lanes : Lanes + Half)...>(upper, lower);
  }
}

template <class T, int Half>
OSA_INLINE void exchange_all(Vector<T>* rows) {
  constexpr int W = static_cast<int>(Simd<T>::width);
  if constexpr (Half < W) {
    exchange<T, Half>(rows, typename CountLanes<W>::List());
    exchange_all<T, 2 * Half>(rows);
  }
}

// Transposes one square of vectors in registers: log2(width) rounds of exchanges.
template <class T>
OSA_INLINE void transpose_block(const T* from, int64_t from_row, T* to, int64_t to_row) {
  constexpr int W = static_cast<int>(Simd<T>::width);
  Vector<T> rows[W];
  OSA_UNROLL(16)
  for (int i = 0; i < W; ++i) rows[i] = load(from + i * from_row);
  exchange_all<T, 1>(rows);
  OSA_UNROLL(16)
  for (int i = 0; i < W; ++i) store(to + i * to_row, rows[i]);
}

// `rows` and `columns` of the source are multiples of the vector width.
template <class T>
void transpose(const T* from, int64_t from_row, T* to, int64_t to_row, int64_t rows, int64_t columns) {
  constexpr int64_t W = Simd<T>::width;
  for (int64_t i = 0; i < rows; i += W)
    for (int64_t j = 0; j < columns; j += W)
      transpose_block(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
}

// The blocks on and above the diagonal of a product whose left `rows` columns are symmetric.
template <class T>
void multiply_upper(const Product<T>& p, Ahead& ahead) {
  for (int64_t i = 0; i < p.rows; i += OSA_TILE_ROWS) {
    const int64_t from = i / Simd<T>::width * Simd<T>::width;
    Product<T> part = p;
    part.rows = smaller<int64_t>(OSA_TILE_ROWS, p.rows - i);
    part.columns = p.columns - from;
    part.a += i * p.a_row;
    part.b += from;
    part.c += i * p.c_row + from;
    if (p.first) part.first += i * p.first_row + from;
    multiply(part, ahead);
  }
}

// Fills the blocks below the diagonal of a symmetric n x n matrix from those above it.
template <class T>
void mirror(T* x, int64_t x_row, int64_t n) {
  constexpr int64_t W = Simd<T>::width;
  for (int64_t i = 0; i < n; i += W)
    for (int64_t j = i + W; j < n; j += W)
      transpose_block(x + i * x_row + j, x_row, x + j * x_row + i, x_row);
}

}  // namespace
#endif
