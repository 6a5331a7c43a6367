// The plain C interface of osa::attention over a sequence that comes in chunks: sums over its tokens,
// weights from the sums, and the weights applied to each chunk again.
//
// Sums are made in the order of a whole sequence: its tokens one after the other within 4096, these sums
// in order. Chunks of whole OSA_SUM_TILE tokens (but for the last one) therefore give the bits of the
// whole, whatever their sizes and on any number of threads. Sums of several machines may be added.
#ifndef OSA_STREAM_H
#define OSA_STREAM_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OSA_SUM_TILE 256

// MEANS adds queries and keys; the caller makes means of them before the other stages, where the call
// centres. SUMS adds [G | T]; CLOSE ends them, and WEIGHTS makes W of them; APPLY writes V + M W.
enum {
  OSA_STREAM_MEANS = 0,
  OSA_STREAM_SUMS = 1,
  OSA_STREAM_CLOSE = 2,
  OSA_STREAM_WEIGHTS = 3,
  OSA_STREAM_APPLY = 4
};

typedef struct {
  OsaCall chunk;     // batch 1; cu_seqlens and mask are not read
  double* means;     // [heads, 2, head_dim]; read and written only where the call centres
  double* sums;      // [heads, 2 head_dim, 3 head_dim]: of G on and above the diagonal, and T
  double* open;      // as sums: of the last tokens, not in them yet
  double* weights;   // [heads, 2 head_dim, head_dim]
  uint8_t* precise;  // [heads]: 1 where sums and weights are computed in double
  int64_t first;     // tokens before the chunk, read by SUMS; of several machines, this one's
  int64_t count;     // tokens of the whole sequence, read by WEIGHTS
  int32_t stage;     // one of the above
  // SUMS, CLOSE and WEIGHTS concern heads whose `precise` is this. WEIGHTS of round 0 sets `precise` where
  // float32 loses too many digits; those heads' sums have to be made again, in round 1.
  int32_t round;
} OsaStreamCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_stream(const OsaStreamCall* call);

#ifdef __cplusplus
}
#endif
#endif
