// What completes an orthogonal mixing, for one instruction set; see OsaCompletion.
#ifndef OSA_COMPLETION_H
#define OSA_COMPLETION_H

#include "elementary.h"
#include "operands.h"

namespace {

constexpr int64_t WEIGHED_AT_ONCE = 64;  // tokens

OSA_INLINE Vector<float> read_vector(const float* from) { return load(from); }
OSA_INLINE Vector<float> read_vector(const bfloat16* from) { return widen_vector(from); }
OSA_INLINE void write_vector(Vector<float> value, float* to) { store(to, value); }
OSA_INLINE void write_vector(Vector<float> value, bfloat16* to) { narrow_vector(value, to); }

// e^x for x <= 0; NaN stays.
OSA_INLINE Vector<float> weight_of(Vector<float> x) {
  return x == x ? exp_negative(x) : x;
}

template <class In>
struct Completed {
  const Operands<In> of;
  const OsaCompletion& by;
  const Rows<const float> sides;  // of this head

  explicit Completed(const OsaTask* task) : of(*task), by(*task->call->completion), sides(rows(*task)) {}

  static Rows<const float> rows(const OsaTask& task) {
    const OsaSequence& sequence = *task.sequence;
    const OsaCompletion& by = *task.call->completion;
    const int64_t first = sequence.batch * task.call->length + (sequence.tokens ? 0 : sequence.first);
    return {by.sides + first * by.side_stride + task.head, by.side_stride, sequence.tokens};
  }
  const float* sides_of(int64_t token) const { return sides[token]; }
};

template <class In>
void pool_values(const OsaTask* task, int64_t from, int64_t to, float* share) {
  constexpr int64_t W = Simd<float>::width;
  const Completed<In> one(task);
  const int64_t width = one.of.head_dim;
  float* const sums = share + 2;
  float largest = -__builtin_inff(), total = 0.0f;
  for (int64_t i = from; i < to; ++i) largest = larger(largest, *one.sides_of(i));
  for (int64_t j = 0; j < width; ++j) sums[j] = 0.0f;
  for (int64_t start = from; start < to; start += WEIGHED_AT_ONCE) {
    alignas(64) float weights[WEIGHED_AT_ONCE] = {};
    const int64_t count = smaller(WEIGHED_AT_ONCE, to - start);
    for (int64_t i = 0; i < count; ++i) weights[i] = *one.sides_of(start + i) - largest;
    for (int64_t i = 0; i < count; i += W) store(weights + i, weight_of(load(weights + i)));
    for (int64_t i = 0; i < count; ++i) total += weights[i];
    int64_t j = 0;
    for (; j + W <= width; j += W) {
      Vector<float> sum = load(sums + j);
      for (int64_t i = 0; i < count; ++i) sum += splat(weights[i]) * read_vector(one.of.value[start + i] + j);
      store(sums + j, sum);
    }
    for (; j < width; ++j)
      for (int64_t i = 0; i < count; ++i) sums[j] += weights[i] * widen(one.of.value[start + i][j]);
  }
  share[0] = largest;
  share[1] = total;
}

// The pooled values of a sequence, from the shares of its chunks in their order.
inline void join_shares(const float* shares, int64_t chunks, int64_t width, float* pooled) {
  float largest = -__builtin_inff(), total = 0.0f;
  for (int64_t c = 0; c < chunks; ++c) largest = larger(largest, shares[c * OSA_POOLED]);
  for (int64_t j = 0; j < width; ++j) pooled[j] = 0.0f;
  for (int64_t c = 0; c < chunks; ++c) {
    const float* const share = shares + c * OSA_POOLED;
    const float weight = weight_of(splat(share[0] - largest))[0];
    total += weight * share[1];
    for (int64_t j = 0; j < width; ++j) pooled[j] += weight * share[2 + j];
  }
  for (int64_t j = 0; j < width; ++j) pooled[j] /= total;
}

template <class In>
void complete(const OsaTask* task, const float* shares, int64_t chunks, int64_t from, int64_t to) {
  constexpr int64_t W = Simd<float>::width;
  const Completed<In> one(task);
  const OsaCompletion& by = one.by;
  const int64_t width = one.of.head_dim, count = one.of.count, heads = one.of.call.heads, head = one.of.head;
  const float* const taps = by.taps ? by.taps + head * 2 * by.reach : nullptr;
  alignas(64) float pooled[128];
  if (by.pool) join_shares(shares, chunks, width, pooled);
  for (int64_t i = from; i < to; ++i) {
    float identity = by.identity[head], mixed = by.mixed[head], pool = by.pool ? by.pool[head] : 0.0f;
    if (by.gated) {
      const float* const gates = one.sides_of(i) + (by.pool ? heads : 0);
      identity += gates[0];
      mixed *= 1.0f + gates[heads];
      if (by.pool) pool *= 1.0f + gates[2 * heads];
    }
    identity -= mixed;
    In* const row = one.of.output[i];
    const int64_t back = taps ? smaller(by.reach, i) : 0, ahead = taps ? smaller(by.reach, count - 1 - i) : 0;
    const auto add_taps = [&](auto sum, int64_t j, const auto& read) __attribute__((always_inline)) {
      for (int64_t o = ahead; o > 0; --o) sum += read(one.of.value[i + o] + j, taps[by.reach - o]);
      for (int64_t o = 1; o <= back; ++o) sum += read(one.of.value[i - o] + j, taps[by.reach + o - 1]);
      return sum;
    };
    int64_t j = 0;
    for (; j + W <= width; j += W) {
      Vector<float> sum = splat(identity) * read_vector(one.of.value[i] + j) + splat(mixed) * read_vector(row + j);
      if (by.pool) sum += splat(pool) * load(pooled + j);
      write_vector(add_taps(sum, j, [](const In* at, float weight) { return splat(weight) * read_vector(at); }), row + j);
    }
    for (; j < width; ++j) {
      float sum = identity * widen(one.of.value[i][j]) + mixed * widen(row[j]);
      if (by.pool) sum += pool * pooled[j];
      narrow(add_taps(sum, j, [](const In* at, float weight) { return weight * widen(*at); }), row + j);
    }
  }
}

}  // namespace
#endif
