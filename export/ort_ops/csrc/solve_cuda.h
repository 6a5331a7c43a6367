// The kernel in the middle: from a sequence's Gram matrix to the weights of its tokens.
#ifndef OSA_SOLVE_CUDA_H
#define OSA_SOLVE_CUDA_H

#include <type_traits>

#include "problem_cuda.h"

constexpr int DEGREE = 14;         // of the series, for angles up to 2 rad
constexpr float SINGLE_LIMIT = 8;  // rad; beyond it float32 cancels

// What products in T of operands In use: shared memory, and the way through it.
template <class T, class In>
struct Products {
  static constexpr bool on_tensor_cores = sizeof(T) == 4 && sizeof(In) == 2 && TENSOR_CORES<In>;
  using Memory = std::conditional_t<on_tensor_cores, TensorTiles<In>, Tiles<T>>;

  // Operands that are rounded numbers of In need no second product: EXACT.
  template <bool EXACT_A, bool EXACT_B, class A, class B, class Put>
  static OSA_DEVICE void run(Memory& memory, int m, int n, int k, const A& a, const B& b, const Put& put) {
    if constexpr (on_tensor_cores)
      multiply<!EXACT_A, !EXACT_B>(memory, m, n, k, a, b, put);
    else
      multiply(memory, m, n, k, a, b, put);
  }
};

// The largest power of two that is not above a magnitude; 1 where it is none.
template <class T>
OSA_DEVICE T unit_of(T magnitude) {
  if (!(magnitude > T(0)) || magnitude > T(1e30)) return T(1);
  int exponent;
  frexp(magnitude, &exponent);
  return ldexp(T(1), exponent - 1);
}

// Z = B + scale A Z' for row-major A [n, n] and Z' [n, m], with B of row length `row`.
template <class Own, class T>
OSA_DEVICE void multiply_add(typename Own::Memory& memory, int n, int m, const T* base, int row, const T* matrix,
                             const T* other, T scale, T* target) {
  Own::template run<false, false>(
      memory, n, m, n, loader<false>([=](int i, int p) { return matrix[i * n + p]; }),
      loader<false>([=](int p, int j) { return other[p * m + j]; }),
      [=](int i, int j, T total) { target[i * m + j] = base[i * row + j] + scale * total; });
}

// Elements of T that one pair takes: [G | T], X, two of [n, d], two of [n, n].
OSA_DEVICE int64_t solve_elements(int d) { return int64_t(6 + 4 + 4 + 8) * d * d; }

template <class Own, class T>
OSA_DEVICE void horner(typename Own::Memory& memory, int n, int m, const T* matrix, const T* block, int row, T** from,
                       T** to) {
  for (int i = thread(); i < n * m; i += THREADS) (*from)[i] = block[i / m * row + i % m];
  OSA_SYNC;
  for (int k = DEGREE + 1; k >= 2; --k) {
    multiply_add<Own>(memory, n, m, block, row, matrix, *from, T(1) / T(k), *to);
    T* const swap = *from;
    *from = *to, *to = swap;
  }
}

// Leaves W = [W_q; W_k] in the first n d elements of the pair's memory.
template <class T, class In>
OSA_KERNEL void solve(Problem<In> problem, const T* sums, T* memory, bool hard_only) {
  const int pair = block(), head = pair % problem.heads, d = problem.d, n = 2 * d, row = 3 * d;
  if (hard_only && !problem.hard[pair]) return;
  const Span span = problem.spans[pair / problem.heads];
  using Own = Products<T, In>;
  OSA_SHARED typename Own::Memory shared;
  T* gram = memory + int64_t(pair) * solve_elements(d);
  T *x = gram + 6 * d * d, *action = x + n * n, *other = action + n * d, *expm1 = other + n * d,
    *square = expm1 + n * n;
  for (int i = thread(); i < n * row; i += THREADS) {
    T total = 0;
    for (int piece = 0; piece < span.pieces; ++piece)
      total += sums[(int64_t(span.piece + piece) * problem.heads + head) * 6 * d * d + i];
    gram[i] = total;
  }
  OSA_SYNC;
  const float count = problem.means[int64_t(pair) * (n + 1) + n];
  const T factor = T(problem.alpha[head]) / (sqrt(T(d)) * T(problem.by_length && count > 1 ? count : 1.0f));
  for (int i = thread(); i < n * n; i += THREADS) {  // c G J = c [-G_2, G_1]
    const int y = i / n, column = i % n;
    x[i] = column < d ? -factor * gram[y * row + d + column] : factor * gram[y * row + column - d];
  }
  OSA_SYNC;
  const T rows = reduce<T, true>(n, [&](int i) {
    T total = 0;
    for (int j = 0; j < n; ++j) total += fabs(x[i * n + j]);
    return total;
  });
  const T columns = reduce<T, true>(n, [&](int j) {
    T total = 0;
    for (int i = 0; i < n; ++i) total += fabs(x[i * n + j]);
    return total;
  });
  const T frobenius = sqrt(reduce<T, false>(n * n, [&](int i) { return x[i] * x[i]; }));
  const T product = sqrt(rows) * sqrt(columns);
  const T bound = product < frobenius ? product : frobenius;
  if (sizeof(T) == 4 && bound > T(SINGLE_LIMIT)) {
    if (thread() == 0) problem.hard[pair] = 1;
    return;
  }
  int squarings = 0;  // none where the bound is no number: NaN comes out by itself
  T scale = 1;
  for (T left = bound; left > T(2) && squarings < 64; left *= T(0.5)) ++squarings, scale *= T(0.5);
  if (squarings) {
    for (int i = thread(); i < n * n; i += THREADS) x[i] *= scale;
    OSA_SYNC;
    horner<Own>(shared, n, n, x, x, n, &expm1, &square);  // phi_1(X) X = exp(X) - 1
  }
  T unit = 1;  // moments have any size, and float16 has few: W is linear in them
  if (Own::on_tensor_cores) {
    unit = unit_of(reduce<T, true>(n * d, [&](int i) { return fabs(gram[i / d * row + n + i % d]); }));
    for (int i = thread(); i < n * d; i += THREADS) gram[i / d * row + n + i % d] /= unit;
    OSA_SYNC;
  }
  horner<Own>(shared, n, d, x, gram + n, row, &action, &other);
  for (int s = 0; s < squarings; ++s) {  // phi_1(2 X) T = (1 + E / 2) phi_1(X) T
    multiply_add<Own>(shared, n, d, action, d, expm1, action, T(0.5), other);
    T* swap = action;
    action = other, other = swap;
    Own::template run<false, false>(
        shared, n, n, n, loader<false>([=](int i, int p) { return expm1[i * n + p]; }),
        loader<false>([=](int p, int j) { return expm1[p * n + j]; }),
        [=](int i, int j, T total) { square[i * n + j] = 2 * expm1[i * n + j] + total; });
    swap = expm1;
    expm1 = square, square = swap;
  }
  // W = c J Z = c [Z_2; -Z_1], on tensor cores without its unit
  T size = 1;
  if (Own::on_tensor_cores) {
    size = unit_of(reduce<T, true>(n * d, [&](int i) { return fabs(factor * action[i]); }));
    if (thread() == 0) problem.units[pair] = float(unit * size);
  }
  for (int i = thread(); i < d * d; i += THREADS) {
    gram[i] = factor * action[d * d + i] / size;
    gram[d * d + i] = -factor * action[i] / size;
  }
}

#endif
