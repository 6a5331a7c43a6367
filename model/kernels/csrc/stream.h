// Stages of a sequence that comes in chunks, of one head, for one instruction set; see osa_stream.h.
#ifndef OSA_STREAM_KERNEL_H
#define OSA_STREAM_KERNEL_H

#include "head.h"
#include "osa_stream.h"

namespace {

// One head of a chunk: its operands, and memory laid out as for a whole sequence.
template <class In, class T>
struct StreamHead {
  const OsaStreamCall& call;
  const OsaSequence sequence;
  const OsaTask task;
  const Operands<In> operands;
  Workspace<T> w;
  const int64_t head, d;

  StreamHead(const OsaStreamCall* stream, int64_t head, void* memory)
      : call(*stream), sequence{0, 0, call.stage == OSA_STREAM_WEIGHTS ? call.count : call.chunk.length, nullptr},
        task{&call.chunk, &sequence, head, memory}, operands(task), head(head), d(call.chunk.head_dim) {
    w.lay_out(d, memory);
    if (!call.chunk.center || call.stage == OSA_STREAM_MEANS) return;
    const double* const from = call.means + head * 2 * d;
    for (int64_t part = 0; part < 2; ++part)
      for (int64_t j = 0; j < w.padded; ++j)
        w.mean[part * w.padded + j] = j < d ? static_cast<T>(from[part * d + j]) : T(0);
  }

  // Where a row or column of [Q | K | V] lies in padded parts.
  int64_t place(int64_t index) const { return index / d * w.padded + index % d; }

  void add_means() {
    double* const to = call.means + head * 2 * d;
    for (int64_t i = 0; i < operands.count; ++i)
      for (int64_t j = 0; j < d; ++j) {
        to[j] += static_cast<double>(widen(operands.query[i][j]));
        to[d + j] += static_cast<double>(widen(operands.key[i][j]));
      }
  }

  // Sums as they are kept, upper part, from and to padded ones; `to` of full blocks on the diagonal.
  void put(const double* from, T* to) const {
    const int64_t row = 3 * w.padded;
    for (int64_t i = 0; i < w.n * row; ++i) to[i] = T(0);
    for (int64_t i = 0; i < 2 * d; ++i)
      for (int64_t j = i; j < 3 * d; ++j) {
        const T sum = static_cast<T>(from[i * 3 * d + j]);
        to[place(i) * row + place(j)] = sum;
        if (j < 2 * d) to[place(j) * row + place(i)] = sum;
      }
  }
  template <class Use>
  void take(const T* from, const Use& use) const {
    for (int64_t i = 0; i < 2 * d; ++i)
      for (int64_t part = i / d; part < 3; ++part) {
        const T* const at = from + (place(i) * 3 + part) * w.padded;
        for (int64_t j = part == i / d ? i % d : 0; j < d; ++j) use(i * 3 * d + part * d + j, at[j]);
      }
  }

  // In the order of a whole sequence: token by token within OSA_CHUNK, then these sums; in double token
  // by token alone.
  void add_sums() {
    double* const total = call.sums + head * 6 * d * d;
    double* const open = call.open + head * 6 * d * d;
    const int64_t whole = sizeof(T) == 4 ? OSA_CHUNK : INT64_MAX;
    int64_t before = call.first % whole;
    for (int64_t start = 0; start < operands.count;) {
      const int64_t taken = smaller(whole - before, operands.count - start);
      if (before) put(open, w.gram);
      reduce_tokens(operands, w, start, taken, false, w.gram, !before);
      start += taken, before += taken;
      if (before < whole) {
        take(w.gram, [&](int64_t at, T sum) { open[at] = static_cast<double>(sum); });
      } else {
        take(w.gram, [&](int64_t at, T sum) {
          total[at] = static_cast<double>(static_cast<T>(total[at]) + sum);
          open[at] = 0.0;
        });
        before = 0;
      }
    }
  }
  void close_sums() {
    double* const total = call.sums + head * 6 * d * d;
    double* const open = call.open + head * 6 * d * d;
    for (int64_t i = 0; i < 6 * d * d; ++i) {
      total[i] = static_cast<double>(static_cast<T>(total[i]) + static_cast<T>(open[i]));
      open[i] = 0.0;
    }
  }

  // False where float32 is not enough.
  bool make_weights() {
    put(call.sums + head * 6 * d * d, w.gram);
    if (!weights_of(w, operands.factor(), polynomials<In>())) return false;
    double* const to = call.weights + head * 2 * d * d;
    for (int64_t i = 0; i < 2 * d; ++i)
      for (int64_t j = 0; j < d; ++j) to[i * d + j] = static_cast<double>(w.weight[place(i) * w.padded + j]);
    return true;
  }

  void apply(int64_t from, int64_t to) {
    const double* const weights = call.weights + head * 2 * d * d;
    for (int64_t i = 0; i < w.n * w.padded; ++i) w.weight[i] = T(0);
    for (int64_t i = 0; i < 2 * d; ++i)
      for (int64_t j = 0; j < d; ++j) w.weight[place(i) * w.padded + j] = static_cast<T>(weights[i * d + j]);
    apply_tokens(operands, w, w.weight, from, to - from, false);
  }
};

template <class In, class T>
void stream_stage(const OsaStreamCall* call, int64_t head, int64_t from, int64_t to, void* memory) {
  StreamHead<In, T> one(call, head, memory);
  if (call->stage == OSA_STREAM_MEANS) one.add_means();
  else if (call->stage == OSA_STREAM_SUMS) one.add_sums();
  else if (call->stage == OSA_STREAM_CLOSE) one.close_sums();
  else if (call->stage == OSA_STREAM_APPLY) one.apply(from, to);
  else if (!one.make_weights()) call->precise[head] = 1;
}

template <class In>
void stream_in(const OsaStreamCall* call, int64_t head, int64_t from, int64_t to, void* memory) {
  const bool applied = call->stage == OSA_STREAM_APPLY, summed = call->stage == OSA_STREAM_MEANS;
  if (!applied && !summed && call->precise[head] != call->round) return;
  if (call->precise[head]) stream_stage<In, double>(call, head, from, to, memory);
  else stream_stage<In, float>(call, head, from, to, memory);
}

// Tokens `from` ... `to` of one head, of all where the stage is not APPLY.
inline void stream_head(const OsaStreamCall* call, int64_t head, int64_t from, int64_t to, void* memory) {
  if (call->chunk.dtype == OSA_BFLOAT16) stream_in<bfloat16>(call, head, from, to, memory);
  else stream_in<float>(call, head, from, to, memory);
}

}  // namespace
#endif
