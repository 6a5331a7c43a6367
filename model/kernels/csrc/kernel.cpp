// The kernel for one instruction set: compiled once for each, with OSA_ISA naming it. With
// OSA_ATTENTION_ALONE it is osa_attention and its completion, and so is the whole library.
#include "completion.h"
#include "head.h"
#if !defined(OSA_ATTENTION_ALONE)
#include "pool.h"
#include "recurrence_kinds.h"
#include "rows.h"
#include "softmax.h"
#include "stream.h"
#endif

#define OSA_JOIN(left, right) left##right
#define OSA_NAME(left, right) OSA_JOIN(left, right)
#define OSA_TEXT(name) OSA_STRING(name)
#define OSA_STRING(name) #name

namespace {

template <class T>
Workspace<T> workspace_of(const OsaTask* task) {
  Workspace<T> workspace;
  workspace.lay_out(task->call->head_dim, task->workspace);
  return workspace;
}

size_t workspace_bytes(const OsaCall* call) {
  Workspace<float> single;
  Workspace<double> precise;
  return larger(single.lay_out(call->head_dim, nullptr), precise.lay_out(call->head_dim, nullptr));
}

// A partial sum of one chunk: [G | T], and in the first one the mean query and key.
struct Partials {
  int64_t gram, size;  // [float32]

  explicit Partials(const OsaCall* call) {
    const int64_t d = Workspace<float>::width_of(call->head_dim);
    gram = 2 * d * 3 * d;
    size = gram + round_up(2 * d, 16);
  }
};
size_t partial_bytes(const OsaCall* call) { return sizeof(float) * Partials(call).size; }

// In double: strongly correlated tokens, where the series of float32 cancels.
template <class In>
void precisely(const OsaTask* task) {
  const Operands<In> operands(*task);
  Workspace<double> w = workspace_of<double>(task);
  const int64_t count = operands.count;
  mean_of(operands, w.padded, w.sums, w.mean);
  reduce_tokens(operands, w, 0, count, false, w.gram);
  weights_of(w, operands.factor(), polynomials<In>());
  apply_tokens(operands, w, w.weight, 0, count, false);
}

template <class In>
void whole(const OsaTask* task) {
  const Operands<In> operands(*task);
  Workspace<float> w = workspace_of<float>(task);
  const int64_t count = operands.count;
  mean_of(operands, w.padded, w.sums, w.mean);
  if (count <= 2 * operands.head_dim) {
    pack(operands, w.mean, 0, count, w.padded, w.rows);
    return token_space(operands, w);
  }
  const bool keep = count <= resident_tokens(w.padded);
  reduce_tokens(operands, w, 0, count, keep, w.gram);
  if (!weights_of(w, operands.factor(), polynomials<In>())) return precisely<In>(task);
  apply_tokens(operands, w, w.weight, 0, count, keep);
}

int64_t chunk_tokens(const OsaTask* task, int64_t chunk) {
  return smaller<int64_t>(OSA_CHUNK, task->sequence->count - chunk * OSA_CHUNK);
}

template <class In>
void mean(const OsaTask* task, float* partials) {
  Workspace<float> w = workspace_of<float>(task);
  mean_of(Operands<In>(*task), w.padded, w.sums, partials + Partials(task->call).gram);
}

template <class In>
void reduce(const OsaTask* task, float* partials, int64_t chunk) {
  Workspace<float> w = workspace_of<float>(task);
  const Partials layout(task->call);
  w.mean = partials + layout.gram;
  reduce_tokens(Operands<In>(*task), w, chunk * OSA_CHUNK, chunk_tokens(task, chunk), false,
                partials + chunk * layout.size);
}

template <class In>
int finish(const OsaTask* task, float* partials, int64_t chunks) {
  const Operands<In> operands(*task);
  Workspace<float> w = workspace_of<float>(task);
  const Partials layout(task->call);
  for (int64_t i = 0; i < layout.gram; ++i) w.gram[i] = partials[i];
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < layout.gram; ++i) w.gram[i] += partials[chunk * layout.size + i];
  if (!weights_of(w, operands.factor(), polynomials<In>())) return precisely<In>(task), 0;
  for (int64_t i = 0; i < w.n * w.padded; ++i) partials[i] = w.weight[i];
  return 1;
}

template <class In>
void apply(const OsaTask* task, float* partials, int64_t chunk) {
  Workspace<float> w = workspace_of<float>(task);
  w.mean = partials + Partials(task->call).gram;
  apply_tokens(Operands<In>(*task), w, partials, chunk * OSA_CHUNK, chunk_tokens(task, chunk), false);
}

bool half(const OsaTask* task) { return task->call->dtype == OSA_BFLOAT16; }

void any_whole(const OsaTask* task) { half(task) ? whole<bfloat16>(task) : whole<float>(task); }
void any_mean(const OsaTask* task, float* partials) {
  half(task) ? mean<bfloat16>(task, partials) : mean<float>(task, partials);
}
void any_reduce(const OsaTask* task, float* partials, int64_t chunk) {
  half(task) ? reduce<bfloat16>(task, partials, chunk) : reduce<float>(task, partials, chunk);
}
int any_finish(const OsaTask* task, float* partials, int64_t chunks) {
  return half(task) ? finish<bfloat16>(task, partials, chunks) : finish<float>(task, partials, chunks);
}
void any_apply(const OsaTask* task, float* partials, int64_t chunk) {
  half(task) ? apply<bfloat16>(task, partials, chunk) : apply<float>(task, partials, chunk);
}
void any_pool_values(const OsaTask* task, int64_t from, int64_t to, float* share) {
  half(task) ? pool_values<bfloat16>(task, from, to, share) : pool_values<float>(task, from, to, share);
}
void any_complete(const OsaTask* task, const float* shares, int64_t chunks, int64_t from, int64_t to) {
  half(task) ? complete<bfloat16>(task, shares, chunks, from, to) : complete<float>(task, shares, chunks, from, to);
}

}  // namespace

extern const OsaBackend OSA_NAME(osa_backend_, OSA_ISA);
const OsaBackend OSA_NAME(osa_backend_, OSA_ISA) = {
    OSA_TEXT(OSA_ISA), workspace_bytes, partial_bytes, any_whole,
    any_mean,          any_reduce,      any_finish,    any_apply,
    any_pool_values,   any_complete,
#if !defined(OSA_ATTENTION_ALONE)
    process_rows,      pool_sequence,   softmax_queries, softmax_bytes,
    stream_head,       follow_tokens,   recurrence_bytes,
#endif
};
