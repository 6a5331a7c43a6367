// The plain C interface of a whole pass through an encoder: calls of the other headers, one after the
// other, so that the caller's interpreter is needed once.
#ifndef OSA_PASS_H
#define OSA_PASS_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OSA_STEP_TRANSFORM = 0, OSA_STEP_ATTENTION = 1, OSA_STEP_SOFTMAX = 2 };

typedef struct {
  int64_t kind;      // one of the above
  const void* call;  // OsaTransformCall, OsaCall or OsaSoftmaxCall
} OsaStep;

// 0, or the number of the failed check of the first step that failed (see osa_attention_error).
OSA_EXPORT int osa_run(const OsaStep* steps, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
