// The plain C interface of the CPU kernel of osa::attention: no torch, no Python, no C++ types.
//
// Source of the operator: arXiv:2602.05996, in the Gram form of osa.model.functional.attention:
//   Y = exp(S) V,  S = c (Q K^T - K Q^T),  c = alpha / sqrt(d)  or  alpha / (sqrt(d) N)
#ifndef OSA_ATTENTION_H
#define OSA_ATTENTION_H

#include <stdint.h>

#if defined(_WIN32)
#define OSA_EXPORT __declspec(dllexport)
#else
#define OSA_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Changes whenever OsaCall or the meaning of a field does; a library of another number is refused.
#define OSA_ABI_VERSION 12

enum { OSA_FLOAT32 = 0, OSA_BFLOAT16 = 1 };
enum { OSA_SCALE_PAPER = 0, OSA_SCALE_LENGTH = 1 };

// A [batch, heads, tokens, head_dim] tensor; strides in elements, that of the last dimension is 1.
typedef struct {
  void* data;
  int64_t batch_stride;
  int64_t head_stride;
  int64_t token_stride;
} OsaTensor;

// What completes an orthogonal mixing (decision 39). Of token i and every head
//   Y_i <- (a - s) V_i + s Y_i + m sum_j softmax_j(logits) V_j + sum of taps[o] V_(i - o), 0 < |o| <= reach,
// the last of the sequence's real tokens alone. With gates of token i a, s, m become a + g_a, s (1 + g_s), m (1 + g_m).
typedef struct {
  const float* sides;  // [batch, length, side_stride]: of a token a number a head, logits, then g_a, g_s, g_m
  int64_t side_stride;
  const float *identity, *mixed, *pool;  // a, s, m of every head [heads]; no pool: no logits, nor g_m
  const float* taps;                     // [heads, 2 reach], offsets -reach ... -1, 1 ... reach
  int64_t reach;
  int32_t gated;
} OsaCompletion;

typedef struct {
  int64_t abi_version;  // OSA_ABI_VERSION
  OsaTensor query, key, value, output;
  const float* alpha;          // [heads]
  const int32_t* cu_seqlens;   // [sequences + 1], rising from 0 to length; or null
  const uint8_t* mask;         // [batch, length], 1 at real tokens; or null
  int64_t batch, heads, length, head_dim;
  int64_t sequences;           // packed sequences; read only with cu_seqlens (then batch is 1)
  int32_t dtype;               // OSA_FLOAT32 or OSA_BFLOAT16, of every operand and the output
  int32_t scale;               // OSA_SCALE_PAPER or OSA_SCALE_LENGTH
  int32_t center;              // 1: subtract each sequence's mean query and key
  int32_t threads;             // at least 1
  // Runs function(data) on `threads` threads at once and waits: GOMP_parallel of the host's OpenMP,
  // so that its pool is used and no second one competes with it. Null: threads of our own.
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
  const OsaCompletion* completion;  // or null
} OsaCall;

// Computes call->output. Returns 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_attention(const OsaCall* call);
OSA_EXPORT const char* osa_attention_error(int code);

OSA_EXPORT int64_t osa_abi_version(void);
// Instruction sets that were built and run here, best first, separated by spaces.
OSA_EXPORT const char* osa_instruction_sets(void);
// The one in use; osa_use_instruction_set(name) changes it (0: unknown or not available here).
OSA_EXPORT const char* osa_instruction_set(void);
OSA_EXPORT int osa_use_instruction_set(const char* name);
// Likewise of what lies between two attentions, whose products come in more variants.
OSA_EXPORT const char* osa_product_sets(void);
OSA_EXPORT const char* osa_product_set(void);
OSA_EXPORT int osa_use_product_set(const char* name);

#ifdef __cplusplus
}
#endif
#endif
