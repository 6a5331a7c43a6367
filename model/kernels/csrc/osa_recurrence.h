// The plain C interface of mixers whose tokens follow one another: recurrences over packed sequences.
//
// A head of a sequence depends on its own tokens alone, bit for bit, on any number of threads. Of the
// results R of a head, what is written is R / sqrt(mean R^2 + OSA_RESULT_EPSILON) unless said otherwise.
// x_t is a row of head_dim numbers of token t; "both ways" is a pass over t = 1 ... N, and one over the
// tokens in reverse, added. All sums are in float32.
#ifndef OSA_RECURRENCE_H
#define OSA_RECURRENCE_H

#include <stdint.h>

#include "osa_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OSA_RESULT_EPSILON 1e-3f
#define OSA_PRISM_TAPS 3
#define OSA_PDSSM_MATRICES 4
#define OSA_CHELA_MODES 2
#define OSA_RECURRENCE_STATES 5

// OSA_PRISM (arXiv:2602.10796), states q, v, k_1, k_2 and five numbers c, b_1, b_2, p_1, p_2; s is the sigmoid.
//   r_1 = v_t - sum over o = 1 ... 3 of taps[3 - o] v_(t - o),  delta_l = GELU(2 s(p_l) r_l),  r_2 = r_1 - delta_1
//   S <- a S (I - s(b_1) k_1 k_1') + sum over l of s(b_l) delta_l k_l',  a = s(c + keeping);  R_t = S q  (both ways)
// with q and k_l divided by their lengths. Weights of a head: taps [3, head_dim], keeping.
//
// OSA_PDSSM (arXiv:2509.22284), states Re b, Im b, m, w and four numbers. P_t moves component j to the largest row
// of column j of sum over i of softmax(numbers)_i M_i, to the first of equal ones.
//   x_t = P_t (s(m + moduli) e^(i w angles) x_(t - 1)) + b_t;  R_t = Re x_t reads_0 - Im x_t reads_1  (both ways)
// Weights of a head: M [4, row, column], moduli, angles [head_dim], reads [2 ways, 2, head_dim].
//
// OSA_CHELA (after arXiv:2406.08128), states a, v, g.
//   h_t = SiLU(sum over o = -1, 0, 1 of short[1 + o] a_(t + o))
//   z_t = here h_t + sum over modes i and o >= 1 of decay_i^o (earlier_i h_(t - o) + later_i h_(t + o))
//   R_t = sum over u of (norm(z_t scale_0 + shift_0) . norm(z_u scale_1 + shift_1)) v_u / N;  written: norm(R) SiLU(g)
// Weights of a head, each [head_dim]: short [3], here, decay [2], earlier [2], later [2], scale [2], shift [2].
enum { OSA_PRISM = 0, OSA_PDSSM = 1, OSA_CHELA = 2 };

typedef struct {
  int64_t abi_version;                      // OSA_ABI_VERSION
  OsaTensor states[OSA_RECURRENCE_STATES];  // in the order above; of one batch row. The rest are not read
  OsaTensor output;
  const float* weights;                     // [heads, weights of a head]
  const int32_t* cu_seqlens;                // [sequences + 1], rising from 0 to length
  int64_t heads, length, head_dim, sequences;
  int32_t kind;                             // one of the above
  int32_t dtype;                            // OSA_FLOAT32 or OSA_BFLOAT16, of states and output
  int32_t threads;                          // as in OsaCall, and so is parallel
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
} OsaRecurrenceCall;

// 0, or the number of the failed check (see osa_attention_error).
OSA_EXPORT int osa_recurrence(const OsaRecurrenceCall* call);

#ifdef __cplusplus
}
#endif
#endif
