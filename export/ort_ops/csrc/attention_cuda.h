// The CUDA kernel of osa's operators: its call, free of ONNX Runtime and of CUDA's types.
#ifndef OSA_ATTENTION_CUDA_H
#define OSA_ATTENTION_CUDA_H

#include <stdint.h>

enum { OSA_CUDA_FLOAT32 = 0, OSA_CUDA_BFLOAT16 = 1, OSA_CUDA_FLOAT16 = 2 };

// What completes a mixing, as OsaCompletion of osa_attention.h; all of it on the device.
struct OsaCudaCompletion {
  const float* sides;  // [batch, length, side_stride], or null where there is neither a pool nor gates
  int64_t side_stride;
  const float *identity, *mixed, *pool;  // [heads]; pool may be null
  const float* taps;                     // [heads, 2 reach], or null
  int64_t reach;
  int32_t gated;
};

// Tensors [batch, length, heads, head_dim], contiguous, on the device.
struct OsaCudaCall {
  const void *query, *key, *value;
  void* output;
  const float* alpha;         // [heads], device
  const int32_t* cu_seqlens;  // [sequences + 1], host; or null
  const uint8_t* mask;        // [batch, length], device; or null
  int64_t batch, length, heads, head_dim, sequences;
  int32_t dtype, by_length, center;
  void* stream;
  const OsaCudaCompletion* completion;  // host; or null
};

// Enqueues the computation. Returns null, or what went wrong.
extern "C" const char* osa_attention_cuda(const OsaCudaCall* call);

#endif
