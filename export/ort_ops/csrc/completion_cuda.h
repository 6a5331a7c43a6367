// The terms that complete a mixing, on the device: pooled values piece by piece, then every element's own sum.
#ifndef OSA_COMPLETION_CUDA_H
#define OSA_COMPLETION_CUDA_H

#include "problem_cuda.h"

// A piece's largest logit, the sum of its weights and its weighted values: share[1], share[2], share[3 ...].
template <class In>
OSA_DEVICE void pool_piece(const Problem<In>& problem, int64_t first, int count, int head, float* share) {
  OSA_SHARED float weights[PIECE];
  const float largest = reduce<float, true>(
      count, [&](int i) { return problem.real(first + i) ? problem.side(first + i, 0, head) : -INFINITY; });
  for (int i = thread(); i < count; i += THREADS)
    weights[i] = problem.real(first + i) ? expf(problem.side(first + i, 0, head) - largest) : 0.0f;
  const float total = reduce<float, false>(count, [&](int i) { return weights[i]; });
  if (thread() == 0) share[1] = largest, share[2] = total;
  sum_columns(
      count, problem.d,
      [&](int i, int j) {
        return problem.real(first + i) ? weights[i] * widen(problem.value[problem.at(first + i, head) + j]) : 0.0f;
      },
      [&](int j, double sum) { share[3 + j] = float(sum); });
}

// The pooled values of a sequence, from the shares of its pieces in their order. A piece without a token has the
// largest logit -inf, and no weight.
template <class In>
OSA_DEVICE void join_pool(const Problem<In>& problem, const Span& span, int head, float* pooled) {
  const int row = 3 + problem.d;
  const float* const shares = problem.shares + (int64_t(span.piece) * problem.heads + head) * row;
  const int64_t step = int64_t(problem.heads) * row;
  for (int j = thread(); j < problem.d; j += THREADS) {
    float largest = -INFINITY, total = 0, sum = 0;
    for (int piece = 0; piece < span.pieces; ++piece) {
      const float found = shares[piece * step + 1];
      if (found > largest || found != found) largest = found;
    }
    for (int piece = 0; piece < span.pieces; ++piece) {
      const float* const share = shares + piece * step;
      const float weight = share[2] == 0 ? 0.0f : expf(share[1] - largest);
      total += weight * share[2], sum += weight * share[3 + j];
    }
    pooled[j] = sum / total;
  }
}

// What becomes of element j of token i of a sequence, a real one, whose mixing is known.
template <class In>
OSA_DEVICE float completed(const Problem<In>& problem, const Span& span, int i, int head, int j, const float* pooled,
                           float mixing) {
  const OsaCudaCompletion& by = problem.completion;
  const int64_t token = span.first + i;
  float identity = by.identity[head], mixed = by.mixed[head], pool = by.pool ? by.pool[head] : 0.0f;
  if (by.gated) {
    const int first = by.pool ? 1 : 0;
    identity += problem.side(token, first, head);
    mixed *= 1.0f + problem.side(token, first + 1, head);
    if (by.pool) pool *= 1.0f + problem.side(token, first + 2, head);
  }
  const auto value = [&](int at) { return widen(problem.value[problem.at(span.first + at, head) + j]); };
  float sum = (identity - mixed) * value(i) + mixed * mixing;
  if (by.pool) sum += pool * pooled[j];
  if (!by.taps) return sum;
  const int reach = int(by.reach);
  const float* const taps = by.taps + int64_t(head) * 2 * reach;
  for (int offset = 1, at = i + 1; offset <= reach; ++offset, ++at) {  // padding between tokens is passed over
    while (at < span.count && !problem.real(span.first + at)) ++at;
    if (at >= span.count) break;
    sum += taps[reach - offset] * value(at);
  }
  for (int offset = 1, at = i - 1; offset <= reach; ++offset, --at) {
    while (at >= 0 && !problem.real(span.first + at)) --at;
    if (at < 0) break;
    sum += taps[reach + offset - 1] * value(at);
  }
  return sum;
}

#endif
