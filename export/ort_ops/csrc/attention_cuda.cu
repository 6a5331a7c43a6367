// exp(S) V on CUDA devices, for ONNX Runtime: the Gram form of osa.model.functional.attention, and what completes it.
//
//   gather  sums of q and k, and the pool's share, of a piece of at most PIECE tokens
//   join    count, mean and pooled values of a sequence
//   sum     [G | T] = M^T [M | V] of a piece          (M = [Q K], n = 2 d)
//   solve   W = c J phi_1(c G J) T, once a sequence and head
//   apply   Y = V + M W, piece by piece, and its completion
//
// Sums are float32; products of float16 and bfloat16 operands run on tensor cores, with numbers that are none of that
// type split in two (device_product.h). Sequences and heads whose bound of c G J is beyond 8 rad run the last three
// steps again in double. A sequence is summed in pieces of its own: its bits do not depend on its batch mates.
// Source: arXiv:2602.05996.
#include <cstring>
#include <vector>

#include "completion_cuda.h"
#include "solve_cuda.h"

namespace {

#if !defined(OSA_WORKSPACE_MIB)
#define OSA_WORKSPACE_MIB 256       // sequences that need more run in groups
#endif
constexpr size_t WORKSPACE = size_t(OSA_WORKSPACE_MIB) << 20;

template <class In>
OSA_KERNEL void gather(Problem<In> problem) {
  const int head = block() % problem.heads, d = problem.d;
  const Piece piece = problem.pieces[block() / problem.heads];
  const int64_t first = problem.spans[piece.sequence].first + piece.start;
  float* const share = problem.shares + int64_t(block()) * (3 + d);
  const float count = reduce<float, false>(
      piece.count, [&](int i) { return problem.real(first + i) ? 1.0f : 0.0f; });
  if (thread() == 0) share[0] = count;
  if (problem.center)
    sum_columns(
        piece.count, 2 * d,
        [&](int i, int j) {
          const In* const source = j < d ? problem.query : problem.key;
          return problem.real(first + i) ? widen(source[problem.at(first + i, head) + j % d]) : 0.0f;
        },
        [&](int j, double total) { problem.sums[int64_t(block()) * 2 * d + j] = total; });
  if (problem.completion.pool) pool_piece(problem, first, piece.count, head, share);
}

template <class In>
OSA_KERNEL void join(Problem<In> problem) {
  const int pair = block(), head = pair % problem.heads, d = problem.d;
  const Span span = problem.spans[pair / problem.heads];
  float* const mean = problem.means + int64_t(pair) * (2 * d + 1);
  const auto place = [&](int piece) { return int64_t(span.piece + piece) * problem.heads + head; };
  float count = 0;
  for (int piece = 0; piece < span.pieces; ++piece) count += problem.shares[place(piece) * (3 + d)];
  if (thread() == 0) mean[2 * d] = count, problem.hard[pair] = 0, problem.units[pair] = 1;
  if (problem.center)
    for (int j = thread(); j < 2 * d; j += THREADS) {
      double total = 0;
      for (int piece = 0; piece < span.pieces; ++piece) total += problem.sums[place(piece) * 2 * d + j];
      mean[j] = static_cast<float>(total / (count > 1 ? count : 1));
    }
  if (problem.completion.pool) join_pool(problem, span, head, problem.pooled + int64_t(pair) * d);
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
  using Own = Products<T, In>;
  OSA_SHARED typename Own::Memory memory;
  const auto left = loader<true>([&](int i, int p) { return element<T>(problem, first + p, head, mean, i); });
  const auto right = loader<false>([&](int p, int j) { return element<T>(problem, first + p, head, mean, j); });
  const auto put = [&](int i, int j, T total) { target[i * 3 * d + j] = total; };
  if (problem.center)
    Own::template run<false, false>(memory, 2 * d, 3 * d, piece.count, left, right, put);
  else
    Own::template run<true, true>(memory, 2 * d, 3 * d, piece.count, left, right, put);
}

template <class T, class In>
OSA_KERNEL void apply(Problem<In> problem, const T* memory, bool hard_only) {
  const int head = block() % problem.heads, d = problem.d;
  const Piece piece = problem.pieces[block() / problem.heads];
  const int pair = piece.sequence * problem.heads + head;
  if (bool(problem.hard[pair]) != hard_only) return;
  const float* mean = problem.means + int64_t(pair) * (2 * d + 1);
  const float* const pooled = problem.pooled + int64_t(pair) * d;
  const T* weight = memory + int64_t(pair) * solve_elements(d);
  const Span span = problem.spans[piece.sequence];
  const int64_t first = span.first + piece.start;
  using Own = Products<T, In>;
  OSA_SHARED typename Own::Memory shared;
  const T unit = Own::on_tensor_cores ? T(problem.units[pair]) : T(1);
  const auto left = loader<false>([&](int i, int p) { return element<T>(problem, first + i, head, mean, p); });
  const auto right = loader<false>([&](int p, int j) { return weight[p * d + j]; });
  const auto put = [&](int i, int j, T total) {
    float sum = 0;
    if (problem.real(first + i)) {
      sum = float(element<T>(problem, first + i, head, mean, 2 * d + j) + unit * total);
      if (problem.completion.identity) sum = completed(problem, span, piece.start + i, head, j, pooled, sum);
    }
    narrow(problem.output + problem.at(first + i, head) + j, sum);
  };
  if (problem.center)
    Own::template run<false, false>(shared, piece.count, d, 2 * d, left, right, put);
  else
    Own::template run<true, false>(shared, piece.count, d, 2 * d, left, right, put);
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
      rounded(blocks * 2 * d * 8),
      rounded(blocks * (3 + d) * 4),
      rounded(pairs * (2 * d + 1) * 4),
      rounded(pairs * d * 4),
      rounded(pairs * 4),
      rounded(pairs * 4),
      rounded(blocks * 6 * d * d * 8),  // float and double one after the other
      rounded(pairs * 22 * d * d * 8),
  };
  constexpr int PARTS = sizeof(sizes) / sizeof(sizes[0]);
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  Scratch scratch(call.stream);
  if (const char* error = scratch.take(size_t(total))) return error;
  char* parts[PARTS];
  char* next = scratch.data();
  for (int i = 0; i < PARTS; ++i) parts[i] = next, next += sizes[i];
  std::vector<char> plan(size_t(sizes[0] + sizes[1]));  // in one copy
  std::memcpy(plan.data(), spans.data(), spans.size() * sizeof(Span));
  std::memcpy(plan.data() + sizes[0], pieces.data(), pieces.size() * sizeof(Piece));
  if (const char* error = scratch.fill(parts[0], plan.data(), plan.size())) return error;
  const auto floats = [&](int part) { return reinterpret_cast<float*>(parts[part]); };
  const auto doubles = [&](int part) { return reinterpret_cast<double*>(parts[part]); };
  const Problem<In> problem{
      static_cast<const In*>(call.query), static_cast<const In*>(call.key), static_cast<const In*>(call.value),
      static_cast<In*>(call.output), call.alpha, call.mask, int(heads), int(d), call.by_length, call.center,
      call.completion ? *call.completion : OsaCudaCompletion{},
      reinterpret_cast<const Span*>(parts[0]), reinterpret_cast<const Piece*>(parts[1]),
      doubles(2), floats(3), floats(4), floats(5), floats(6), reinterpret_cast<int*>(parts[7])};
  float *sums = floats(8), *memory = floats(9);
  double *precise_sums = doubles(8), *precise = doubles(9);
  void* const stream = call.stream;
  const char* error = launch(gather<In>, blocks, stream, problem);
  if (!error) error = launch(join<In>, pairs, stream, problem);
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
    case OSA_CUDA_FLOAT16: return run<__half>(*call);
    case OSA_CUDA_BFLOAT16: return run<__nv_bfloat16>(*call);
    default: return "dtype must be float32, float16 or bfloat16";
  }
}
