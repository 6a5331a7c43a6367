// The plain C interface of what is done with single float32 rows, in one pass each; in place. A row's
// result depends on itself alone.
#ifndef OSA_ROWS_CALL_H
#define OSA_ROWS_CALL_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OSA_ACTIVATE = 0, OSA_ADD_AND_NORM = 1, OSA_RMS_NORM = 2, OSA_LAYER_NORM = 3 };

typedef struct {
  int64_t abi_version;  // OSA_ABI_VERSION
  int64_t operation;
  // OSA_ACTIVATE:     rows = GELU(rows + bias), by erf within 1.5e-7
  // OSA_ADD_AND_NORM: rows = LayerNorm(rows + added + bias)
  // OSA_RMS_NORM:     rows = rows / sqrt(mean(rows^2) + epsilon) * norm_weight; OSA_LAYER_NORM likewise
  float* rows;          // [count, width], `stride` apart
  const float* added;   // [count, width]
  const float* bias;    // [width]; may be null, as may the norm's bias
  const float *norm_weight, *norm_bias;
  int64_t count, width, stride;
  float epsilon;
  int32_t threads;  // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaRowsCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_rows(const OsaRowsCall* call);

#ifdef __cplusplus
}
#endif
#endif
