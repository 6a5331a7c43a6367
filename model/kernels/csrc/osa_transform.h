// The plain C interface of what lies between two attentions of an encoder, on AMX tiles: all that
// is done token by token. Each row depends on itself alone, bit for bit.
#ifndef OSA_TRANSFORM_H
#define OSA_TRANSFORM_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OSA_GELU = 0, OSA_RELU = 1, OSA_SILU = 2, OSA_GELU_TANH = 3 };

// One block's second half, then the next one's first:
//   hidden += mixed out^T;  hidden += activation(norm(hidden) up^T) down^T      with `mixed`
//   states = heads(norm(hidden) qkv^T)                                          with `qkv`
// and with `post`, where `mixer_norm` is that of the first block:
//   hidden = norm(hidden + mixed out^T);  hidden = norm(hidden + activation(hidden up^T) down^T)
//   states = heads(hidden qkv^T)
// norm(x) = x / sqrt(mean(x^2) + epsilon) * weight, or LayerNorm. A product may have a bias. With `gated`,
// `up` has 2 inner outputs, and activation(a) * b of its halves goes on.
// heads(): of every query and key RMS norm, then rotary
// positions (halves convention, arXiv:2104.09864). What a product reads is rounded to bfloat16, its
// sums are float32.
//
// A weight [N, K] is bfloat16, packed: [N / 32, K / 2, 32, 2], of each 32 outputs the inputs in pairs.
typedef struct {
  int64_t abi_version;                    // OSA_ABI_VERSION
  float* hidden;                          // [rows, width]
  const void* mixed;                      // bfloat16 [rows, width]: what the attention gave; or null
  const void *out, *up, *down;            // packed [width, width], [inner, width], [width, inner]
  const float *out_bias, *up_bias, *down_bias, *qkv_bias;  // of the outputs; each may be null
  const float *feed_forward_norm, *feed_forward_norm_bias;  // [width]; the bias may be null
  const void* qkv;                        // packed [3 width, width]; or null
  const float *mixer_norm, *mixer_norm_bias;  // [width]; null: no norm, no bias
  void* states;                           // bfloat16 [rows, 3, heads, width / heads]
  const float *cosine, *sine;             // [rows, width / heads / 2]; null: no positions
  int64_t rows, width, inner, heads;      // width and inner: multiples of 32
  float norm_epsilon, head_epsilon;
  int32_t activation;                     // OSA_GELU within 6e-5 or 1e-5 |x|
  int32_t gated, layer_norm, post;        // 0 or 1
  int32_t normalize;                      // 1: RMS norm of heads, without weight
  int32_t threads;                        // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaTransformCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_transform(const OsaTransformCall* call);

#ifdef __cplusplus
}
#endif
#endif
