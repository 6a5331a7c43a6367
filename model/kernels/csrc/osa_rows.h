// The plain C interface of what surrounds the attention token by token, on bfloat16 operands: residual
// sums, RMS norm, normalised and rotated queries and keys. Each row depends on itself alone.
#ifndef OSA_ROWS_H
#define OSA_ROWS_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OSA_MAX_PARTS 8

// hidden += parts[0] + parts[1] + ...; output = hidden / sqrt(mean(hidden^2) + epsilon) * weight
typedef struct {
  int64_t abi_version;               // OSA_ABI_VERSION
  float* hidden;                     // [rows, width]
  const void* parts[OSA_MAX_PARTS];  // bfloat16 [rows, width]; added up in float32, in order
  int64_t part_count;                // 0 to OSA_MAX_PARTS
  const float* weight;               // [width]
  void* output;                      // bfloat16 [rows, width]; null: no norm is wanted
  int64_t rows, width;
  float epsilon;
  int32_t threads;                   // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaNormCall;

// In place, of each row's queries and keys, head by head: RMS norm, then rotary positions (halves
// convention, arXiv:2104.09864).
typedef struct {
  int64_t abi_version;
  void* states;                // bfloat16 [rows, 3, heads, head_dim]: queries, keys, values
  const float *cosine, *sine;  // [rows, head_dim / 2]; null: no positions
  int64_t rows, heads, head_dim;
  float epsilon;
  int32_t normalize;           // 1: RMS norm without weight
  int32_t threads;
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaHeadsCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_add_norm(const OsaNormCall* call);
OSA_EXPORT int osa_prepare_heads(const OsaHeadsCall* call);

#ifdef __cplusplus
}
#endif
#endif
