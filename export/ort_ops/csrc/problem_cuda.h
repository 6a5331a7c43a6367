// What the CUDA kernels of a group of sequences know: operands, how the work is split, what is passed on.
#ifndef OSA_PROBLEM_CUDA_H
#define OSA_PROBLEM_CUDA_H

#include "attention_cuda.h"
#include "device_product.h"

constexpr int PIECE = 1024;  // tokens of one block

struct Span {  // a sequence in its group: tokens from first on; its pieces are [piece, piece + pieces)
  int64_t first;
  int count, piece, pieces;
};
struct Piece {
  int sequence, start, count;
};

// A pair is a sequence and a head, a block a piece and a head; heads of one lie side by side.
template <class In>
struct Problem {
  const In *query, *key, *value;
  In* output;
  const float* alpha;
  const uint8_t* mask;
  int heads, d, by_length, center;
  OsaCudaCompletion completion;  // no identity: none
  const Span* spans;
  const Piece* pieces;
  double* sums;   // [blocks, 2 d]: of q and k
  float* shares;  // [blocks, 3 + d]: real tokens; largest logit, sum of weights, weighted values
  float* means;   // [pairs, 2 d + 1]: of q and k, and real tokens
  float* pooled;  // [pairs, d]
  float* units;   // [pairs]: powers of two that W is stored without
  int* hard;      // [pairs]

  OSA_DEVICE int64_t at(int64_t token, int head) const { return (token * heads + head) * d; }
  OSA_DEVICE bool real(int64_t token) const { return !mask || mask[token]; }
  // Number `place` that a token says of its own mixing.
  OSA_DEVICE float side(int64_t token, int place, int head) const {
    return completion.sides[token * completion.side_stride + place * heads + head];
  }
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

#endif
