// exp(X) of a small matrix with imaginary eigenvalues, acting on a block.
//
//   exp(X) = 1 + X F(X^2) + X^2 E(X^2),   F(a) = sinh(sqrt a) / sqrt a,   E(a) = (cosh(sqrt a) - 1) / a
//
// F and E are polynomials in X^2, which takes half as many products as powers of X. Eigenvalues of
// X^2 lie in [-angle^2, 0]: there the Taylor series is economised (Lanczos' telescoping: its last
// terms are replaced by Chebyshev's best lower ones), which saves another product or two. At X = 0
// the result is exact.
#ifndef OSA_SERIES_H
#define OSA_SERIES_H

#include "product.h"

namespace {

constexpr double ANGLE_LIMIT = 2.0;  // [rad] beyond it rounding grows as e^angle: scale and square
constexpr double PRECISE_BOUND = 8.0;  // [rad] beyond it float32 cancels in feature space
constexpr int MAX_DEGREE = 8;          // in X^2; enough for ANGLE_LIMIT in every tolerance
constexpr int TAYLOR_TERMS = 16;

// F of degree J and E of degree J - 1, good for angles up to `angle` [rad].
struct Polynomial {
  double angle, odd[MAX_DEGREE + 1], even[MAX_DEGREE + 1];
};

// Taylor coefficients 1 / (2 j + offset)! of a function of a, cut down to `degree` for a in
// [-length, 0]. Returns a bound of the error made.
inline double economise(double length, int offset, int degree, double* coefficients) {
  double term[TAYLOR_TERMS], factorial = 1.0;
  for (int k = 2; k <= offset; ++k) factorial *= k;
  for (int j = 0; j < TAYLOR_TERMS; ++j) {
    term[j] = 1.0 / factorial;
    factorial *= (2.0 * j + offset + 1) * (2.0 * j + offset + 2);
  }
  double error = 0.0;
  for (int top = TAYLOR_TERMS - 1; top > degree; --top) {
    // Chebyshev's polynomial of degree `top` on [-length, 0], by powers of a / length.
    double before[TAYLOR_TERMS + 1] = {1.0}, now[TAYLOR_TERMS + 1] = {1.0, 2.0};
    for (int n = 1; n < top; ++n) {  // T_{n+1} = 2 (1 + 2 a / length) T_n - T_{n-1}
      for (int j = n + 1; j >= 0; --j) {
        const double lower = j ? now[j - 1] : 0.0;
        const double following = 2.0 * (now[j] + 2.0 * lower) - before[j];
        before[j] = now[j];
        now[j] = following;
      }
    }
    double power = 1.0;
    for (int j = 0; j < top; ++j) power *= length;
    const double size = term[top] * power / now[top];
    power = 1.0;
    for (int j = 0; j <= top; ++j, power *= length) term[j] -= size * now[j] / power;
    error += size < 0 ? -size : size;
  }
  for (int j = 0; j <= degree; ++j) coefficients[j] = term[j];
  return error;
}

struct PolynomialTable {
  Polynomial of[MAX_DEGREE + 1];

  // Errors of exp(X) up to `tolerance`; every degree serves angles as large as it can.
  explicit PolynomialTable(double tolerance) {
    for (int degree = 1; degree <= MAX_DEGREE; ++degree) {
      Polynomial& polynomial = of[degree];
      double low = 0.0, high = 2.0 * ANGLE_LIMIT;
      for (int halvings = 0; halvings < 40; ++halvings) {
        const double angle = 0.5 * (low + high);
        (error_of(polynomial, degree, angle) <= tolerance ? low : high) = angle;
      }
      error_of(polynomial, degree, low);
      polynomial.angle = low;
    }
  }

  // The smallest degree for an angle within ANGLE_LIMIT; the largest for what is no number.
  int degree_for(double angle) const {
    int degree = 1;
    while (degree < MAX_DEGREE && !(angle <= of[degree].angle)) ++degree;
    return degree;
  }

 private:
  static double error_of(Polynomial& polynomial, int degree, double angle) {
    const double square = angle * angle;
    polynomial.even[degree] = 0.0;
    return angle * economise(square, 1, degree, polynomial.odd) +
           square * economise(square, 2, degree - 1, polynomial.even);
  }
};

// Doublings after which an angle comes from within ANGLE_LIMIT.
inline int squarings_for(double angle) {
  int count = 0;
  for (; angle > ANGLE_LIMIT && count < 1100; angle *= 0.5) ++count;
  return count;
}

inline double square_root(double value) { return __builtin_sqrt(value); }

// An upper bound of ||X||_2 for a matrix whose absolute row sums are, in some order, its absolute
// column sums: the lesser of their largest and the Frobenius norm. `pairs`: every singular value
// comes twice, as those of a skew-symmetric matrix do. NaN where X holds one.
template <class T>
double norm_bound(const T* x, int64_t x_row, int64_t rows, int64_t columns, bool pairs) {
  constexpr int64_t W = Simd<T>::width;
  Vector<T> largest{}, squares{};
  for (int64_t j = 0; j < columns; j += W) {
    Vector<T> sums{}, square{};
    for (int64_t i = 0; i < rows; ++i) {
      const Vector<T> value = load(x + i * x_row + j);
      sums += value < T(0) ? -value : value;
      square += value * value;
    }
    largest = sums > largest ? sums : largest;
    squares += square;
  }
  double top = 0.0, total = 0.0;
  for (int64_t l = 0; l < W; ++l) total += squares[l], top = larger<double>(top, largest[l]);
  const double frobenius = square_root(pairs ? 0.5 * total : total);
  return frobenius < top || !(frobenius <= frobenius) ? frobenius : top;
}

template <class T>
struct Block {
  const T* data;
  int64_t row;
};

// out = sum_j M^j (p_j P + q_j Q), j up to `degree`. `spare` holds two blocks of n x width.
template <class T>
void sum_series(int64_t n, const T* m, int64_t m_row, int degree, const double* p_factors, Block<T> p,
                const double* q_factors, Block<T> q, int64_t width, T* spare, T* out, int64_t out_row,
                Ahead& ahead) {
  T* next = spare;
  Block<T> sum{nullptr, 0};
  for (int j = degree; j >= 0; --j) {
    Product<T> product{n, width, sum.data ? n : 0, m, m_row, 1, sum.data, sum.row, next, width};
    if (j == 0) product.c = out, product.c_row = out_row;
    product.first = p.data, product.first_row = p.row;
    product.first_factor = static_cast<T>(p_factors[j]);
    product.second = q.data, product.second_row = q.row;
    product.second_factor = static_cast<T>(q_factors[j]);
    multiply(product, ahead);
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
