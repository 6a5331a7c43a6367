// The plain C interface of what lies between two attentions of an encoder: all that
// is done token by token. Each row depends on itself alone, bit for bit.
#ifndef OSA_TRANSFORM_H
#define OSA_TRANSFORM_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OSA_GELU = 0, OSA_RELU = 1, OSA_SILU = 2, OSA_GELU_TANH = 3 };

enum { OSA_INT8 = 2 };  // a dtype of products alone, beside OSA_FLOAT32 and OSA_BFLOAT16

// Inputs of a product in 8 bits that share one scale.
#define OSA_GROUP 384

// One block's second half, then the next one's first:
//   hidden += mixed out^T;  hidden += activation(norm(hidden) up^T) down^T      with `mixed`
//   states = heads(norm(hidden) qkv^T)                                          with `qkv`
// and with `post`, where `mixer_norm` is that of the first block:
//   hidden = norm(hidden + mixed out^T);  hidden = norm(hidden + activation(hidden up^T) down^T)
//   states = heads(hidden qkv^T)
// Without the weight of `out`, `mixed` takes the place of the product; without that of `up`, the second
// line and the norm of its input or sum are left out. Without `residual` `=` stands in place of `+=`, and nothing before `+`. norm(x) = x / sqrt(mean(x^2)
// + epsilon) * weight, or LayerNorm. A product may have a bias. With `gated`, `up` has 2 inner outputs,
// and activation(a) * b of its halves goes on. heads(): of every query and key RMS norm, then rotary
// positions (halves convention, arXiv:2104.09864); they are the first `turned` of the `parts` states.
//
// What a product reads is rounded to its dtype, its sums are float32, or exact integers. In 8 bits
// rows have a scale for every OSA_GROUP inputs, their largest number over 127, and weights one for
// every output.
//
// A weight [N, K] is packed: [N / 32, K / w, 32, w], of each 32 outputs the inputs in words of 32 bits;
// w is 1, 2 and 4. N is a multiple of 32, K of 32 or, in 8 bits, 64; what is added is zero.
typedef struct {
  const void* weight;   // packed; null: no product
  const float* bias;    // [N], or null
  const float* scale;   // in 8 bits: [N]
  const float* totals;  // in 8 bits: [K / OSA_GROUP, rounded up, N], sums of the whole numbers over groups
} OsaLayer;

typedef struct {
  const float *weight, *bias;  // [width], or null; those that are added to the features are zero
} OsaNorm;

typedef struct {
  int64_t abi_version;                    // OSA_ABI_VERSION
  float* hidden;                          // [rows, width]
  const void* mixed;                      // [rows, features], as states: what the attention gave; or null
  OsaLayer out, up, down;                 // [width, width], [inner, width], [width, inner]; weights may be null
  OsaNorm feed_forward_norm;
  OsaLayer qkv;                           // [parts width, width]
  OsaLayer side;                          // [side_width, width], of what qkv reads; or none
  OsaNorm mixer_norm;                     // no weight: no norm
  void* states;                           // float32 [rows, parts, width], of each width the heads; bfloat16 where
                                          // products are not in float32
  float* sides;                           // [rows, side_width], float32 in any dtype
  const float *cosine, *sine;             // [rows, head / 2]; null: no positions
  int64_t rows, width, inner, side_width;  // multiples as above
  int64_t features, heads;                // real ones of `width`
  float norm_epsilon, head_epsilon;
  int32_t dtype;                          // of products
  int32_t activation;                     // OSA_GELU: in float32 within 2e-7, else 6e-5 or 1e-5 |x|
  int32_t residual, gated, layer_norm, post;  // 0 or 1
  int32_t normalize;                      // 1: RMS norm of heads, without weight
  int32_t parts, turned;                  // 3 and 2 where they are queries, keys and values
  int32_t follows;                        // in a pass, 1: there is a block before, so that `mixed` is read
  int32_t threads;                        // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaTransformCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_transform(const OsaTransformCall* call);

#ifdef __cplusplus
}
#endif
#endif
