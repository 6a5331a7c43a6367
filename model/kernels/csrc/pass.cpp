// Steps of a pass, each given the addresses and sizes of its batch.
#include "osa_pass.h"

#include "osa_rows.h"
#include "osa_softmax.h"
#include "osa_transform.h"

namespace {

template <class Call>
Call begin(const OsaStep& step, const OsaBatch& batch) {
  Call call = *static_cast<const Call*>(step.call);
  call.threads = batch.threads;
  call.parallel = batch.parallel;
  return call;
}

int transform(const OsaStep& step, const OsaBatch& batch) {
  OsaTransformCall call = begin<OsaTransformCall>(step, batch);
  call.hidden = batch.hidden;
  call.mixed = call.follows ? batch.mixed : nullptr;
  call.states = call.qkv.weight ? batch.states : nullptr;
  call.sides = batch.sides;
  call.side_width = batch.side_width;
  if (step.positions >= 0) {
    call.cosine = batch.cosine[step.positions];
    call.sine = batch.sine[step.positions];
  }
  call.rows = batch.rows;
  call.width = batch.width;
  return osa_transform(&call);
}

// Operands of an attention over all rows.
template <class Call>
Call attend(const OsaStep& step, const OsaBatch& batch) {
  Call call = begin<Call>(step, batch);
  const int64_t size = call.dtype == OSA_BFLOAT16 ? 2 : 4;
  OsaTensor* const parts[] = {&call.query, &call.key, &call.value};
  for (int64_t part = 0; part < 3; ++part)
    *parts[part] = {static_cast<char*>(batch.states) + part * batch.width * size, 0, call.head_dim, 3 * batch.width};
  call.output = {batch.mixed, 0, call.head_dim, call.heads * call.head_dim};
  call.cu_seqlens = batch.cu_seqlens;
  call.length = batch.rows;
  call.sequences = batch.sequences;
  return call;
}

int mix(const OsaStep& step, const OsaBatch& batch) {
  OsaCall call = attend<OsaCall>(step, batch);
  OsaCompletion completion;
  if (call.completion) {
    completion = *call.completion;
    completion.sides = batch.sides;
    completion.side_stride = batch.side_width;
    call.completion = &completion;
  }
  return osa_attention(&call);
}

int soften(const OsaStep& step, const OsaBatch& batch) {
  OsaSoftmaxCall call = attend<OsaSoftmaxCall>(step, batch);
  call.bias = batch.bias;
  call.reach = batch.reach;
  call.bias_row = batch.bias_row;
  return osa_softmax(&call);
}

int finish(const OsaStep& step, const OsaBatch& batch) {
  OsaRowsCall call = begin<OsaRowsCall>(step, batch);
  call.rows = batch.hidden;
  call.count = batch.rows;
  call.stride = batch.width;
  return osa_rows(&call);
}

}  // namespace

extern "C" int osa_run(const OsaStep* steps, int64_t count, const OsaBatch* batch) {
  int code = batch->abi_version == OSA_ABI_VERSION ? 0 : 1;
  for (const OsaStep* step = steps; !code && step < steps + count; ++step) {
    if (step->kind == OSA_STEP_TRANSFORM) code = transform(*step, *batch);
    else if (step->kind == OSA_STEP_SOFTMAX) code = soften(*step, *batch);
    else if (step->kind == OSA_STEP_ROWS) code = finish(*step, *batch);
    else code = mix(*step, *batch);
  }
  return code;
}
