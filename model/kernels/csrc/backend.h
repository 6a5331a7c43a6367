// What one compiled instruction set offers to the scheduler, and what the scheduler tells it.
#ifndef OSA_BACKEND_H
#define OSA_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "osa_attention.h"
#include "osa_pass.h"
#include "osa_pool.h"
#include "osa_recurrence.h"
#include "osa_rows.h"
#include "osa_softmax.h"
#include "osa_stream.h"
#include "osa_transform.h"

// Tokens that are reduced into one partial sum. Longer sequences are cut at multiples of it, and
// their partial sums added in order: the same bits on any number of threads.
#define OSA_CHUNK 4096

// The largest logit of some tokens, the sum of their weights, their weighted values.
#define OSA_POOLED (2 + 128)

// One sequence: real tokens `first` ... `first + count` of a batch row, or those that `tokens` lists.
typedef struct {
  int64_t batch, first, count;
  const int32_t* tokens;
} OsaSequence;

typedef struct {
  const OsaCall* call;
  const OsaSequence* sequence;
  int64_t head;
  void* workspace;  // workspace_bytes, aligned to 64, of this thread
} OsaTask;

// Queries `from` ... `to` of one head of a sequence, the packed tokens `first` ... `first + count`.
typedef struct {
  const OsaSoftmaxCall* call;
  int64_t head, first, count, from, to;
} OsaSoftmaxTask;

// One head of the packed tokens `first` ... `first + count`, at least one.
typedef struct {
  const OsaRecurrenceCall* call;
  int64_t head, first, count;
} OsaRecurrenceTask;

typedef struct {
  const char* name;
  size_t (*workspace_bytes)(const OsaCall*);
  size_t (*partial_bytes)(const OsaCall*);  // of one chunk of one head
  // A sequence of at most OSA_CHUNK tokens, all of it.
  void (*whole)(const OsaTask*);
  // A longer one, in steps that each need the last one's results in `partials`, one for each chunk:
  // its mean (where centred); every chunk reduced; then once, which leaves the weights in the first
  // partial and returns 0 where nothing is left to apply; every chunk applied.
  void (*mean)(const OsaTask*, float* partials);
  void (*reduce)(const OsaTask*, float* partials, int64_t chunk);
  int (*finish)(const OsaTask*, float* partials, int64_t chunks);
  void (*apply)(const OsaTask*, float* partials, int64_t chunk);
  // Tokens `from` ... `to` of a completion: their share of the pooled values, in OSA_POOLED numbers; what
  // becomes of them, given those of all chunks of the sequence.
  void (*pool_values)(const OsaTask*, int64_t from, int64_t to, float* share);
  void (*complete)(const OsaTask*, const float* shares, int64_t chunks, int64_t from, int64_t to);
  void (*rows)(const OsaRowsCall*, int64_t from, int64_t to);
  void (*pool)(const OsaPoolCall*, int64_t sequence);
  // Softmax attention, and its memory for a sequence of so many tokens.
  void (*softmax)(const OsaSoftmaxTask*, void* memory);
  size_t (*softmax_bytes)(const OsaSoftmaxCall*, int64_t count);
  // One head of a chunk, with workspace_bytes; applied to its tokens `from` ... `to`.
  void (*stream)(const OsaStreamCall*, int64_t head, int64_t from, int64_t to, void* memory);
  // Tokens that follow one another, and the memory for so many of them.
  void (*recurrence)(const OsaRecurrenceTask*, void* memory);
  size_t (*recurrence_bytes)(const OsaRecurrenceCall*, int64_t count);
} OsaBackend;

// What lies between two attentions, in one dtype: rows `from` ... `to`, with memory for so many.
typedef struct {
  int64_t step, most;  // rows that a thread takes at once: a multiple of the one, at most the other
  void (*rows)(const OsaTransformCall*, int64_t from, int64_t to, void* memory);
  size_t (*bytes)(const OsaTransformCall*, int64_t rows);
} OsaTransform;

// The products of one instruction set.
typedef struct {
  const char* name;
  OsaTransform transforms[3];  // OSA_FLOAT32, OSA_BFLOAT16, OSA_INT8
} OsaProducts;

#endif
