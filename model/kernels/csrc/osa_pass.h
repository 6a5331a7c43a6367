// The plain C interface of a whole pass through an encoder: calls of the other headers, one after the
// other, so that the caller's interpreter is needed once.
#ifndef OSA_PASS_H
#define OSA_PASS_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OSA_STEP_TRANSFORM = 0, OSA_STEP_ATTENTION = 1, OSA_STEP_SOFTMAX = 2, OSA_STEP_ROWS = 3 };

// What stays from batch to batch: of `call` all that OsaBatch has is not read.
typedef struct {
  int64_t kind;       // one of the above
  const void* call;   // OsaTransformCall, OsaCall, OsaSoftmaxCall or OsaRowsCall; a completion has no sides
  int64_t positions;  // of a transform: which of the batch's, or -1
} OsaStep;

typedef struct {
  int64_t abi_version;                   // OSA_ABI_VERSION
  float* hidden;                         // [rows, width]
  void* states;                          // [rows, 3, width]: queries, keys and values, heads side by side
  void* mixed;                           // [rows, heads, head_dim]: what attentions give
  float* sides;                          // [rows, side_width], where a transform has some; may be null
  const int32_t* cu_seqlens;             // [sequences + 1]
  const float *cosine[2], *sine[2];      // of tokens' positions [rows, head_dim / 2]
  const float* bias;                     // as in OsaSoftmaxCall, and so are reach and bias_row
  int64_t reach, bias_row;
  int64_t rows, width, side_width, sequences;
  int32_t threads;                       // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaBatch;

// 0, or the number of the failed check of the first step that failed (see osa_attention_error).
OSA_EXPORT int osa_run(const OsaStep* steps, int64_t count, const OsaBatch* batch);

#ifdef __cplusplus
}
#endif
#endif
