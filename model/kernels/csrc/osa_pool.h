// The plain C interface of pooling: one vector a packed sequence, which depends on that alone, bit for bit.
#ifndef OSA_POOL_CALL_H
#define OSA_POOL_CALL_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

// The mean of a sequence's rows, its first or last row, or the mean weighted by 1, 2, 3 and so on.
enum { OSA_POOL_MEAN = 0, OSA_POOL_CLS = 1, OSA_POOL_LAST = 2, OSA_POOL_WEIGHTED = 3 };

typedef struct {
  int64_t abi_version;        // OSA_ABI_VERSION
  const float* hidden;        // [length, width], rows `stride` apart
  float* vectors;             // [sequences, width]; zeros for a sequence without rows
  const int32_t* cu_seqlens;  // [sequences + 1], rising from 0 to length
  int64_t length, width, stride, sequences;
  int32_t how;                // one of the above
  int32_t threads;            // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaPoolCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_pool(const OsaPoolCall* call);

#ifdef __cplusplus
}
#endif
#endif
