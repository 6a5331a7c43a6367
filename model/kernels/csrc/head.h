// One sequence and head: token space up to N = 2d, feature space above.
#ifndef OSA_HEAD_H
#define OSA_HEAD_H

#include "operands.h"
#include "series.h"
#include "tiles.h"

namespace {

// Errors that the series may make: an ulp, or far below the operands' own rounding.
template <class In> const PolynomialTable& polynomials();
template <>
inline const PolynomialTable& polynomials<float>() {
  static const PolynomialTable table(1.19e-7);
  return table;
}
template <>
inline const PolynomialTable& polynomials<bfloat16>() {
  static const PolynomialTable table(2.44e-4);
  return table;
}

constexpr int64_t TILE = 64;      // tokens reduced at once: their rows stay in the first cache
// Up to so many tokens the packed rows are kept for stage three: three parts of 256 KiB in float32.
constexpr int64_t resident_tokens(int64_t padded) { return padded > 256 ? 256 : 65536 / padded; }

template <class T>
struct Workspace {
  int64_t padded, n;  // head width and 2 d, padded to vectors
  double* sums;       // [2 padded]
  T *mean;            // [2 padded]
  T *rows;            // [resident tokens, 3 padded]
  T *gram;            // [n, 3 padded]: G and T = M^T V
  T *x, *square, *e, *f;     // [n, n]
  T *odd, *spare, *weight;   // [n, padded]; two of them, and TILE rows; [n, padded]
  T *wide;                   // two of [n, n], touched by large angles only
  T *tile;                   // of stages one and three in pairs

  static int64_t width_of(int64_t head_dim) { return round_up(head_dim, Simd<T>::width); }

  // Lays the parts out from `memory` (aligned to 64) on; returns the bytes they take.
  size_t lay_out(int64_t head_dim, void* memory) {
    padded = width_of(head_dim);
    n = 2 * padded;
    size_t used = 0;
    char* base = static_cast<char*>(memory);
    auto take = [&](auto*& part, int64_t count) {
      part = reinterpret_cast<decltype(+part)>(base + used);
      used = static_cast<size_t>(round_up(int64_t(used + count * sizeof(*part)), 64));
    };
    take(sums, 2 * padded), take(mean, 2 * padded);
    take(rows, resident_tokens(padded) * 3 * padded), take(gram, n * 3 * padded);
    take(x, n * n), take(square, n * n), take(e, n * n), take(f, n * n);
    take(odd, n * padded), take(spare, larger(2 * n, TILE) * padded), take(weight, n * padded);
    take(wide, 2 * n * n);
#if defined(OSA_PAIRS)
    take(tile, pair_scratch(padded));
#endif
    return used;
  }
};

// Y = exp(S) V with S of N x N. `w.rows` holds the packed rows.
template <class In, class T>
void token_space(const Operands<In>& operands, Workspace<T>& w) {
  // Below 32 tokens asking takes longer than waiting.
  Ahead ahead = rows_ahead(operands, operands.head + 1, 0, operands.count < 32 ? 0 : operands.count);
  const int64_t count = operands.count, d = w.padded, row = 3 * d;
  const int64_t n = round_up(count, Simd<T>::width);
  T *scores = w.x, *products = w.square, *keys = w.e;
  for (int64_t i = count * row; i < n * row; ++i) w.rows[i] = T(0);
  transpose(w.rows + d, row, keys, n, n, d);
  multiply(Product<T>{count, n, d, w.rows, row, 1, keys, n, products, n}, ahead);
  for (int64_t i = count * n; i < n * n; ++i) products[i] = T(0);
  transpose(products, n, w.f, n, n, n);
  const T factor = static_cast<T>(operands.factor());
  for (int64_t i = 0; i < n * n; i += Simd<T>::width)
    store(scores + i, (load(products + i) - load(w.f + i)) * splat(factor));

  const double bound = norm_bound(scores, n, count, n, true);
  if (!(bound < 1e300)) return operands.fill_nan();
  T* direct = direct_rows<T>(operands, 0, d);
  T* out = direct ? direct : w.weight;
  const int64_t out_row = direct ? operands.output.stride : d;
  const Block<T> value{w.rows + 2 * d, row}, odd{w.odd, d};
  const int squarings = squarings_for(bound);
  const double scale = power_of_two(-squarings);
  const PolynomialTable& table = polynomials<In>();
  const int degree = table.degree_for(bound * scale);
  const Polynomial& polynomial = table.of[degree];
  if (squarings) scale_in_place(scores, n, count, n, static_cast<T>(scale));
  multiply_upper(Product<T>{count, n, count, scores, n, 1, scores, n, w.square, n}, ahead);
  mirror(w.square, n, n);
  if (!squarings) {  // Y = V + F S V + S^2 E V
    double even[MAX_DEGREE + 1] = {1.0};
    for (int j = 1; j <= degree; ++j) even[j] = polynomial.even[j - 1];
    multiply(Product<T>{count, d, count, scores, n, 1, value.data, row, w.odd, d}, ahead);
    sum_series(count, w.square, n, degree, polynomial.odd, odd, even, value, d, w.spare, out, out_row,
               ahead);
  } else {  // X = exp(S) - 1 is squared up, then Y = V + X V
    T *from = w.e, *to = w.f;
    sum_series(count, w.square, n, degree, polynomial.odd, {scores, n}, polynomial.even, {w.square, n},
               n, w.wide, from, n, ahead);
    for (int s = 0; s < squarings; ++s) {
      square_expm1(count, n, from, to, n);
      T* const swap = from;
      from = to, to = swap;
    }
    Product<T> last{count, d, count, from, n, 1, value.data, row, out, out_row};
    last.first = value.data, last.first_row = row;
    multiply(last);
  }
  if (!direct) unpack(operands, 0, count, out, d);
}

// [G | T] of `count` tokens, added to what is there unless `fresh`; the same bits at once and in parts
// of PANEL tokens.
template <class In, class T>
void reduce_tokens(const Operands<In>& operands, Workspace<T>& w, int64_t start, int64_t count,
                   bool keep, T* gram, bool fresh = true) {
#if defined(OSA_PAIRS)
  if constexpr (Same<In, bfloat16>::value && sizeof(T) == 4)
    if (pairs_fit(operands)) return reduce_pairs(operands, start, count, w.tile, gram, fresh);
#endif
  const int64_t row = 3 * w.padded;
  for (int64_t i = 0; fresh && i < w.n * row; i += Simd<T>::width) store(gram + i, Vector<T>{});
  for (int64_t done = 0; done < count; done += TILE) {
    const int64_t tile = smaller(TILE, count - done);
    T* rows = w.rows + (keep ? done * row : 0);
    pack(operands, w.mean, start + done, tile, w.padded, rows);
    Product<T> product{w.n, row, tile, rows, 1, row, rows, row, gram, row};
    product.first = gram, product.first_row = row;
    const int64_t next = start + done + tile;
    Ahead ahead = rows_ahead(operands, operands.head, next, keep ? 0 : smaller(next + TILE, start + count));
    multiply_upper(product, ahead);  // [G | T] += M^T [M | V]
  }
}

// X^2 = K J = [-K_2, K_1] into w.square, with K = X (c G) skew-symmetric: half of it is computed.
template <class T>
void square_of(Workspace<T>& w, double factor) {
  constexpr int64_t W = Simd<T>::width;
  const int64_t d = w.padded, n = w.n;
  T* skew = w.f;
  Ahead nothing;
  Product<T> product{n, n, n, w.x, n, 1, w.gram, 3 * d, skew, n, static_cast<T>(factor)};
  multiply_upper(product, nothing);
  mirror(skew, n, n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t below = i / W * W;  // columns that were mirrored: their sign turns
    for (int64_t j = 0; j < n; j += W) {
      const Vector<T> value = load(skew + i * n + j);
      const bool negative = (j < below) != (j >= d);
      store(w.square + i * n + (j < d ? j + d : j - d), negative ? -value : value);
    }
  }
}

// Stage two: W = c J phi_1(X) T into w.weight, X = c G J, phi_1(X) = F(X^2) + E(X^2) X. X is not
// normal, but Y = V + M W sees it through S alone, whose eigenvalues are X's. False where float32
// would lose too many digits; a bound that is no number makes W NaN.
template <class T>
bool weights_of(Workspace<T>& w, double factor, const PolynomialTable& table) {
  constexpr int64_t W = Simd<T>::width;
  Ahead nothing;
  const int64_t d = w.padded, n = w.n, row = 3 * d;
  mirror(w.gram, row, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < d; j += W) {  // X = c G J = c [-G_2, G_1]
      store(w.x + i * n + j, load(w.gram + i * row + d + j) * splat(static_cast<T>(-factor)));
      store(w.x + i * n + d + j, load(w.gram + i * row + j) * splat(static_cast<T>(factor)));
    }
  const double bound = norm_bound(w.x, n, n, n, false);
  if (sizeof(T) == 4 && bound > PRECISE_BOUND) return false;
  const Block<T> moment{w.gram + 2 * d, row};
  square_of(w, factor);
  double angle = smaller(bound, square_root(norm_bound(w.square, n, n, n, true)));
  if (!(angle < 1e300)) factor = __builtin_nan(""), angle = 0.0;  // never silently wrong
  const int squarings = squarings_for(angle);
  const double scale = power_of_two(-squarings);
  const int degree = table.degree_for(angle * scale);
  const Polynomial& polynomial = table.of[degree];
  if (squarings) {
    scale_in_place(w.x, n, n, n, static_cast<T>(scale));
    scale_in_place(w.square, n, n, n, static_cast<T>(scale * scale));
  }
  T *action = w.f, *other = w.odd;
  multiply(Product<T>{n, d, n, w.x, n, 1, moment.data, row, w.odd, d});
  sum_series(n, w.square, n, degree, polynomial.odd, moment, polynomial.even, {w.odd, d}, d, w.spare,
             action, d, nothing);
  if (squarings) {  // D = exp(X) - 1; phi_1(2 X) T = (1 + D / 2) phi_1(X) T
    T *from = w.e, *to = w.gram;  // G is not needed any more, and [n, 3d] holds [n, 2d]
    sum_series(n, w.square, n, degree, polynomial.odd, {w.x, n}, polynomial.even, {w.square, n}, n,
               w.wide, from, n, nothing);
    for (int s = 0; s < squarings; ++s) {
      Product<T> product{n, d, n, from, n, 1, action, d, other, d, T(0.5)};
      product.first = action, product.first_row = d;
      multiply(product);
      square_expm1(n, n, from, to, n);
      T* swap = from;
      from = to, to = swap;
      swap = action, action = other, other = swap;
    }
  }
  for (int64_t i = 0; i < d * d; i += W) {  // W = c J Z = c [Z_2; -Z_1]
    store(w.weight + i, load(action + d * d + i) * splat(static_cast<T>(factor)));
    store(w.weight + d * d + i, load(action + i) * splat(static_cast<T>(-factor)));
  }
  return true;
}

// Stage three: Y = V + M W. Rows are packed again unless kept.
template <class In, class T>
void apply_tokens(const Operands<In>& operands, Workspace<T>& w, const T* weight, int64_t start,
                  int64_t count, bool keep) {
#if defined(OSA_PAIRS)
  if constexpr (Same<In, bfloat16>::value && sizeof(T) == 4)
    if (pairs_fit(operands)) return apply_pairs(operands, weight, start, count, w.tile);
#endif
  const int64_t d = w.padded, row = 3 * d;
  for (int64_t done = 0; done < count; done += TILE) {
    const int64_t tile = smaller(TILE, count - done);
    T* rows = w.rows + (keep ? done * row : 0);
    if (!keep) pack(operands, w.mean, start + done, tile, d, rows);
    T* direct = direct_rows<T>(operands, start + done, d);
    T* out = direct ? direct : w.spare;
    const int64_t out_row = direct ? operands.output.stride : d;
    Product<T> product{tile, d, w.n, rows, row, 1, weight, d, out, out_row};
    product.first = rows + 2 * d, product.first_row = row;
    // What is too long to be kept here is too long to be kept for whoever reads it next.
    product.past_caches = direct && !keep && !(reinterpret_cast<uintptr_t>(direct) % OSA_VECTOR_BYTES) &&
                          !(out_row % Simd<T>::width);
    const int64_t next = start + done + tile;
    Ahead ahead = rows_ahead(operands, operands.head, next, keep ? 0 : smaller(next + TILE, start + count));
    multiply(product, ahead);
    if (!direct) unpack(operands, start + done, tile, out, d);
  }
  finish_stores();
}

}  // namespace
#endif
