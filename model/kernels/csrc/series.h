// Power series of a small matrix acting on a block, and how many terms they need.
//
//   phi_1(X) T = sum X^k T / (k + 1)!,   exp(X) V = sum X^k V / k!
//
// Even and odd powers are summed together: sum_j (X^2)^j (P / (2j + o)! + Q / (2j + 1 + o)!) with
// Q = X P, which takes half as many products and, from ||X^2||, a closer bound of the angle.
// Al-Mohy and Higham, SIAM J. Sci. Comput. 33(2), 2011, bound the remainder in the same way.
#ifndef OSA_SERIES_H
#define OSA_SERIES_H

#include "product.h"

namespace {

constexpr double ANGLE_LIMIT = 2.0;  // [rad] beyond it rounding grows as e^angle: scale and square
constexpr double PRECISE_BOUND = 8.0;  // [rad] beyond it float32 cancels in feature space
constexpr int MAX_DEGREE = 30;

struct InverseFactorials {
  double of[MAX_DEGREE + 4];
  constexpr InverseFactorials() : of{} {
    of[0] = 1.0;
    for (int k = 1; k < MAX_DEGREE + 4; ++k) of[k] = of[k - 1] / k;
  }
};
constexpr InverseFactorials INVERSE_FACTORIAL;

// Smallest degree K of sum X^k / (k + offset)! whose remainder is below `tolerance`, where
// ||X^k|| <= excess * angle^k. e^angle is bounded by 8 within ANGLE_LIMIT.
inline int degree_for(double angle, double excess, double tolerance, int offset) {
  double power = excess * 8.0;
  for (int k = 0; k < MAX_DEGREE; ++k) {
    power *= angle;
    if (power * INVERSE_FACTORIAL.of[k + 1 + offset] <= tolerance) return k;
  }
  return MAX_DEGREE;
}

// Doublings after which an angle comes from within ANGLE_LIMIT.
inline int squarings_for(double angle) {
  int count = 0;
  for (; angle > ANGLE_LIMIT && count < 1100; angle *= 0.5) ++count;
  return count;
}

inline double square_root(double value) { return __builtin_sqrt(value); }

struct Norms {
  double rows, columns, frobenius;  // largest absolute row sum and column sum

  // An upper bound of ||X||_2; NaN where X holds one.
  double bound() const {
    const double mixed = square_root(rows * columns);
    return mixed < frobenius ? mixed : frobenius;
  }
  // Of a skew-symmetric X or its square: singular values come in pairs.
  double paired_bound() const {
    const double pairs = frobenius * 0.70710678118654752440;
    return rows < pairs ? rows : pairs;
  }
};

// `scratch` holds size vectors of `columns`; columns is a multiple of the vector width.
template <class T>
Norms norms_of(const T* x, int64_t x_row, int64_t rows, int64_t columns, T* scratch) {
  constexpr int64_t W = Simd<T>::width;
  for (int64_t j = 0; j < columns; j += W) store(scratch + j, Vector<T>{});
  double squares = 0.0, row_max = 0.0, column_max = 0.0;
  for (int64_t i = 0; i < rows; ++i) {
    Vector<T> sum{}, square{};
    for (int64_t j = 0; j < columns; j += W) {
      const Vector<T> value = load(x + i * x_row + j);
      const Vector<T> magnitude = value < T(0) ? -value : value;
      sum += magnitude;
      square += value * value;
      store(scratch + j, load(scratch + j) + magnitude);
    }
    double total = 0.0;
    for (int64_t l = 0; l < W; ++l) total += sum[l], squares += square[l];
    row_max = total <= row_max ? row_max : total;  // a NaN wins
  }
  for (int64_t j = 0; j < columns; ++j)
    column_max = scratch[j] <= column_max ? column_max : static_cast<double>(scratch[j]);
  if (!(squares <= squares)) row_max = column_max = squares;
  return {row_max, column_max, square_root(squares)};
}

template <class T>
struct Block {
  const T* data;
  int64_t row;
};

// out = sum_j M^j (P / (step j + offset)! + Q / (step j + 1 + offset)!), up to degree K of X,
// with step 2, M = X^2 and Q = X P; or step 1, M = X, no Q. `keep` is added to the result where
// given. `spare` holds two blocks of n x width.
template <class T>
void sum_series(int64_t n, const T* m, int64_t m_row, Block<T> p, Block<T> q, int64_t width,
                int degree, int offset, T* spare, Block<T> keep, T* out, int64_t out_row) {
  const int step = q.data ? 2 : 1;
  T* next = spare;
  Block<T> sum{nullptr, 0};
  for (int j = degree / step; j >= 0; --j) {
    const bool has_q = q.data && 2 * j + 1 <= degree;
    Product<T> product{n, width, sum.data ? n : 0, m, m_row, 1, sum.data, sum.row, next, width};
    product.first = p.data;
    product.first_row = p.row;
    product.first_factor = static_cast<T>(INVERSE_FACTORIAL.of[step * j + offset]);
    product.second = has_q ? q.data : nullptr;
    product.second_row = q.row;
    product.second_factor = static_cast<T>(INVERSE_FACTORIAL.of[2 * j + 1 + offset]);
    if (j == 0) {
      product.c = out;
      product.c_row = out_row;
      if (keep.data) {  // only without Q
        product.second = keep.data;
        product.second_row = keep.row;
        product.second_factor = T(1);
      }
    }
    multiply(product);
    sum = {next, width};
    next = next == spare ? spare + n * width : spare;
  }
}

// E = 2 E + E^2 once, from `from` into `to`.
template <class T>
void square_expm1(int64_t n, int64_t columns, const T* from, T* to, int64_t row) {
  Product<T> product{n, columns, n, from, row, 1, from, row, to, row};
  product.first = from;
  product.first_row = row;
  product.first_factor = T(2);
  multiply(product);
}

template <class T>
void scale_in_place(T* x, int64_t x_row, int64_t rows, int64_t columns, T factor) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; j += Simd<T>::width)
      store(x + i * x_row + j, load(x + i * x_row + j) * splat(factor));
}

inline double power_of_two(int exponent) {
  double value = 1.0;
  for (; exponent > 0; --exponent) value *= 2.0;
  for (; exponent < 0; ++exponent) value *= 0.5;
  return value;
}

}  // namespace
#endif
