// The plain C interface of softmax attention over packed sequences:
//   Y = softmax(scale Q K^T + bias) V   within each sequence and head.
// Each query's result depends on its own sequence alone, bit for bit, on any number of threads.
#ifndef OSA_SOFTMAX_H
#define OSA_SOFTMAX_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int64_t abi_version;  // OSA_ABI_VERSION
  OsaTensor query, key, value, output;  // batch_stride is not read
  const int32_t* cu_seqlens;            // [sequences + 1], rising from 0 to length
  int64_t heads, length, head_dim, sequences;
  // Added to the scores, by relative position: row h holds those of key - query = -(reach - 1) and
  // upwards, and is bias_row long, at least 2 reach - 1 and 64 more. Null for none.
  const float* bias;
  int64_t reach, bias_row;  // reach: at least the longest sequence
  int64_t window;           // largest distance of a key from its query; negative for no limit
  float scale;
  int32_t dtype;    // OSA_FLOAT32 or OSA_BFLOAT16, of every operand and the output
  int32_t threads;  // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaSoftmaxCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_softmax(const OsaSoftmaxCall* call);

#ifdef __cplusplus
}
#endif
#endif
