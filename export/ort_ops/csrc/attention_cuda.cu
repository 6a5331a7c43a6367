// exp(S) V on CUDA devices, for ONNX Runtime: the Gram form of osa.model.functional.attention.
//
//   begin   count and mean of a sequence's real tokens
//   sum     [G | T] = M^T [M | V] of a piece of at most PIECE tokens          (M = [Q K], n = 2 d)
//   solve   W = c J phi_1(c G J) T, once a sequence and head
//   apply   Y = V + M W, piece by piece
//
// In float32; sequences and heads whose bound of c G J is beyond 8 rad run the last three steps again
// in double. A sequence is summed in pieces of its own: its bits do not depend on its batch mates.
// Source: arXiv:2602.05996.
#include "attention_cuda.h"

#include <vector>

#include "device_product.h"

namespace {

constexpr int PIECE = 1024;         // tokens of one block
constexpr int DEGREE = 14;          // of the series, for angles up to 2 rad
constexpr float SINGLE_LIMIT = 8;   // rad; beyond it float32 cancels
#if !defined(OSA_WORKSPACE_MIB)
#define OSA_WORKSPACE_MIB 256       // sequences that need more run in groups
#endif
constexpr size_t WORKSPACE = size_t(OSA_WORKSPACE_MIB) << 20;

struct Span {  // a sequence in its group: tokens from first on; its pieces are [piece, piece + pieces)
  int64_t first;
  int count, piece, pieces;
};
struct Piece {
  int sequence, start, count;
};

template <class In>
struct Problem {
  const In *query, *key, *value;
  In* output;
  const float* alpha;
  const uint8_t* mask;
  int heads, d, by_length, center;
  const Span* spans;
  const Piece* pieces;
  float* means;  // [pairs, 2 d + 1]: mean of q and k, and the count
  int* hard;     // [pairs]

  OSA_DEVICE int64_t at(int64_t token, int head) const { return (token * heads + head) * d; }
  OSA_DEVICE bool real(int64_t token) const { return !mask || mask[token]; }
};

// Element j of row `token` of [Q K V], centred, zero where padded.
template <class T, class In>
OSA_DEVICE T element(const Problem<In>& problem, int64_t token, int head, const float* mean, int j) {
  if (!problem.real(token)) return T(0);
  const int d = problem.d, part = j / d;
  const In* source = part == 0 ? problem.query : part == 1 ? problem.key : problem.value;
  const T found = widen(source[problem.at(token, head) + j % d]);
  return part < 2 && problem.center ? found - T(mean[j]) : found;
}

template <class In>
OSA_KERNEL void begin(Problem<In> problem) {
  const int pair = block(), head = pair % problem.heads, d = problem.d;
  const Span span = problem.spans[pair / problem.heads];
  float* mean = problem.means + int64_t(pair) * (2 * d + 1);
  const float count = reduce<float, false>(
      span.count, [&](int i) { return problem.real(span.first + i) ? 1.0f : 0.0f; });
  if (thread() == 0) mean[2 * d] = count, problem.hard[pair] = 0;
  if (!problem.center) return;
  for (int j = thread(); j < 2 * d; j += THREADS) {
    double sum = 0;
    const In* source = j < d ? problem.query : problem.key;
    for (int i = 0; i < span.count; ++i)
      if (problem.real(span.first + i)) sum += widen(source[problem.at(span.first + i, head) + j % d]);
    mean[j] = static_cast<float>(sum / (count > 1 ? count : 1));
  }
}

template <class T, class In>
OSA_KERNEL void sum(Problem<In> problem, T* sums, bool hard_only) {
  const int head = block() % problem.heads, d = problem.d;
  const Piece piece = problem.pieces[block() / problem.heads];
  const int pair = piece.sequence * problem.heads + head;
  if (hard_only && !problem.hard[pair]) return;
  const float* mean = problem.means + int64_t(pair) * (2 * d + 1);
  const int64_t first = problem.spans[piece.sequence].first + piece.start;
  T* target = sums + int64_t(block()) * 6 * d * d;
  multiply<T>(
      2 * d, 3 * d, piece.count,
      loader<true>([&](int i, int p) { return element<T>(problem, first + p, head, mean, i); }),
      loader<false>([&](int p, int j) { return element<T>(problem, first + p, head, mean, j); }),
      [&](int i, int j, T total) { target[i * 3 * d + j] = total; });
}

// Z = B + scale A Z' for row-major [n, n] by [n, m], with B of row length `row`.
template <class T>
OSA_DEVICE void multiply_add(int n, int m, const T* base, int row, const T* matrix, const T* other, T scale,
                             T* target) {
  multiply<T>(
      n, m, n, loader<false>([=](int i, int p) { return matrix[i * n + p]; }),
      loader<false>([=](int p, int j) { return other[p * m + j]; }),
      [=](int i, int j, T total) { target[i * m + j] = base[i * row + j] + scale * total; });
}

// Elements of T that one pair takes: [G | T], X, two of [n, d], two of [n, n].
OSA_DEVICE int64_t solve_elements(int d) { return int64_t(6 + 4 + 4 + 8) * d * d; }

template <class T>
OSA_DEVICE void horner(int n, int m, const T* matrix, const T* block, int row, T** from, T** to) {
  for (int i = thread(); i < n * m; i += THREADS) (*from)[i] = block[i / m * row + i % m];
  OSA_SYNC;
  for (int k = DEGREE + 1; k >= 2; --k) {
    multiply_add(n, m, block, row, matrix, *from, T(1) / T(k), *to);
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
    horner(n, n, x, x, n, &expm1, &square);  // phi_1(X) X = exp(X) - 1
  }
  horner(n, d, x, gram + n, row, &action, &other);
  for (int s = 0; s < squarings; ++s) {  // phi_1(2 X) T = (1 + E / 2) phi_1(X) T
    multiply_add(n, d, action, d, expm1, action, T(0.5), other);
    T* swap = action;
    action = other, other = swap;
    multiply<T>(
        n, n, n, loader<false>([=](int i, int p) { return expm1[i * n + p]; }),
        loader<false>([=](int p, int j) { return expm1[p * n + j]; }),
        [=](int i, int j, T total) { square[i * n + j] = 2 * expm1[i * n + j] + total; });
    swap = expm1;
    expm1 = square, square = swap;
  }
  for (int i = thread(); i < d * d; i += THREADS) {  // W = c J Z = c [Z_2; -Z_1]
    gram[i] = factor * action[d * d + i];
    gram[d * d + i] = -factor * action[i];
  }
}

template <class T, class In>
OSA_KERNEL void apply(Problem<In> problem, const T* memory, bool hard_only) {
  const int head = block() % problem.heads, d = problem.d;
  const Piece piece = problem.pieces[block() / problem.heads];
  const int pair = piece.sequence * problem.heads + head;
  if (bool(problem.hard[pair]) != hard_only) return;
  const float* mean = problem.means + int64_t(pair) * (2 * d + 1);
  const T* weight = memory + int64_t(pair) * solve_elements(d);
  const int64_t first = problem.spans[piece.sequence].first + piece.start;
  multiply<T>(
      piece.count, d, 2 * d,
      loader<false>([&](int i, int p) { return element<T>(problem, first + i, head, mean, p); }),
      loader<false>([&](int p, int j) { return weight[p * d + j]; }), [&](int i, int j, T total) {
        const T sum = element<T>(problem, first + i, head, mean, 2 * d + j) + total;
        narrow(problem.output + problem.at(first + i, head) + j, float(sum));
      });
}

int64_t rounded(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Everything of some sequences that fit the workspace together.
template <class In>
const char* run_group(const OsaCudaCall& call, const std::vector<Span>& spans, const std::vector<Piece>& pieces) {
  const int64_t heads = call.heads, d = call.head_dim;
  const int64_t pairs = int64_t(spans.size()) * heads, blocks = int64_t(pieces.size()) * heads;
  const int64_t sizes[] = {
      rounded(int64_t(spans.size() * sizeof(Span))),
      rounded(int64_t(pieces.size() * sizeof(Piece))),
      rounded(pairs * (2 * d + 1) * 4),
      rounded(pairs * 4),
      rounded(blocks * 6 * d * d * 8),  // float and double one after the other
      rounded(pairs * 22 * d * d * 8),
  };
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  Scratch scratch(call.stream);
  if (const char* error = scratch.take(size_t(total))) return error;
  char* parts[6];
  char* next = scratch.data();
  for (int i = 0; i < 6; ++i) parts[i] = next, next += sizes[i];
  if (const char* error = scratch.fill(parts[0], spans.data(), spans.size() * sizeof(Span))) return error;
  if (const char* error = scratch.fill(parts[1], pieces.data(), pieces.size() * sizeof(Piece))) return error;
  Problem<In> problem{
      static_cast<const In*>(call.query), static_cast<const In*>(call.key), static_cast<const In*>(call.value),
      static_cast<In*>(call.output), call.alpha, call.mask, int(heads), int(d), call.by_length, call.center,
      reinterpret_cast<const Span*>(parts[0]), reinterpret_cast<const Piece*>(parts[1]),
      reinterpret_cast<float*>(parts[2]), reinterpret_cast<int*>(parts[3])};
  float *sums = reinterpret_cast<float*>(parts[4]), *memory = reinterpret_cast<float*>(parts[5]);
  double *precise_sums = reinterpret_cast<double*>(parts[4]), *precise = reinterpret_cast<double*>(parts[5]);
  void* const stream = call.stream;
  const char* error = launch(begin<In>, pairs, stream, problem);
  if (!error) error = launch(sum<float, In>, blocks, stream, problem, sums, false);
  if (!error) error = launch(solve<float, In>, pairs, stream, problem, sums, memory, false);
  if (!error) error = launch(apply<float, In>, blocks, stream, problem, memory, false);
  if (!error) error = launch(sum<double, In>, blocks, stream, problem, precise_sums, true);
  if (!error) error = launch(solve<double, In>, pairs, stream, problem, precise_sums, precise, true);
  if (!error) error = launch(apply<double, In>, blocks, stream, problem, precise, true);
  return error;
}

template <class In>
const char* run(const OsaCudaCall& call) {
  const int64_t count = call.cu_seqlens ? call.sequences : call.batch;
  const int64_t a_pair = call.head_dim * call.head_dim * 8 * (22 + 6);
  std::vector<Span> spans;
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = call.cu_seqlens ? call.cu_seqlens[i] : i * call.length;
    const int64_t length = call.cu_seqlens ? call.cu_seqlens[i + 1] - first : call.length;
    if (length) {
      Span span{first, int(length), int(pieces.size()), int((length + PIECE - 1) / PIECE)};
      for (int start = 0; start < int(length); start += PIECE)
        pieces.push_back({int(spans.size()), start, int(length) - start < PIECE ? int(length) - start : PIECE});
      spans.push_back(span);
    }
    const bool full = size_t(call.heads * a_pair) * (spans.size() + pieces.size()) >= WORKSPACE;
    if (spans.empty() || (!full && i + 1 < count)) continue;
    if (const char* error = run_group<In>(call, spans, pieces)) return error;
    spans.clear(), pieces.clear();
  }
  return nullptr;
}

}  // namespace

extern "C" const char* osa_attention_cuda(const OsaCudaCall* call) {
  if (call->cu_seqlens) {
    const int32_t* offsets = call->cu_seqlens;
    bool fits = offsets[0] == 0 && offsets[call->sequences] == call->length;
    for (int64_t i = 0; i < call->sequences; ++i) fits = fits && offsets[i] <= offsets[i + 1];
    if (!fits) return "cu_seqlens must rise from 0 to the packed length";
  }
  switch (call->dtype) {
    case OSA_CUDA_FLOAT32: return run<float>(*call);
#if !defined(OSA_HOST_EMULATION)
    case OSA_CUDA_FLOAT16: return run<__half>(*call);
    case OSA_CUDA_BFLOAT16: return run<__nv_bfloat16>(*call);
#endif
    default: return "dtype must be float32, float16 or bfloat16";
  }
}
