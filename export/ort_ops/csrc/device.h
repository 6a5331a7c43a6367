// What the CUDA kernels use of the device, and the same for the host: there a block is one thread,
// so that the arithmetic and the indices are tested where there is no GPU (OSA_HOST_EMULATION).
#ifndef OSA_DEVICE_H
#define OSA_DEVICE_H

#include <cmath>
#include <cstddef>
#include <cstdint>

constexpr int LOGICAL_THREADS = 256;

#if defined(OSA_HOST_EMULATION)

#include <cstdlib>
#include <cstring>

#define OSA_DEVICE inline
#define OSA_KERNEL static
#define OSA_SHARED static
#define OSA_SYNC
constexpr int THREADS = 1;
struct Index { unsigned x; };
static Index block_index{0};
inline int thread() { return 0; }
inline int block() { return static_cast<int>(block_index.x); }
inline float widen(float value) { return value; }
inline void narrow(float* target, float value) { *target = value; }

template <class Kernel, class... Arguments>
const char* launch(Kernel kernel, int64_t blocks, void*, const Arguments&... arguments) {
  for (int64_t i = 0; i < blocks; ++i) block_index.x = static_cast<unsigned>(i), kernel(arguments...);
  return nullptr;
}

// Memory of one call, in the order of its stream.
class Scratch {
 public:
  explicit Scratch(void*) {}
  ~Scratch() { std::free(memory_); }
  const char* take(size_t bytes) { return (memory_ = std::malloc(bytes)) ? nullptr : "out of memory"; }
  char* data() const { return static_cast<char*>(memory_); }
  const char* fill(void* target, const void* source, size_t bytes) {
    std::memcpy(target, source, bytes);
    return nullptr;
  }

 private:
  void* memory_ = nullptr;
};

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define OSA_DEVICE __device__ __forceinline__
#define OSA_KERNEL static __global__ __launch_bounds__(LOGICAL_THREADS)
#define OSA_SHARED __shared__
#define OSA_SYNC __syncthreads()
constexpr int THREADS = LOGICAL_THREADS;
__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int block() { return static_cast<int>(blockIdx.x); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void narrow(float* target, float value) { *target = value; }
__device__ __forceinline__ void narrow(__half* target, float value) { *target = __float2half(value); }
__device__ __forceinline__ void narrow(__nv_bfloat16* target, float value) {
  *target = __float2bfloat16(value);
}

inline const char* told(cudaError_t code) { return code == cudaSuccess ? nullptr : cudaGetErrorString(code); }

template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), int64_t blocks, void* stream, const Arguments&... arguments) {
  if (blocks > 0)
    kernel<<<static_cast<unsigned>(blocks), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  return told(cudaGetLastError());
}

class Scratch {
 public:
  explicit Scratch(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {}
  ~Scratch() {
    if (memory_) cudaFreeAsync(memory_, stream_);
  }
  const char* take(size_t bytes) { return told(cudaMallocAsync(&memory_, bytes, stream_)); }
  char* data() const { return static_cast<char*>(memory_); }
  // From pageable memory: the source may be freed when this returns.
  const char* fill(void* target, const void* source, size_t bytes) {
    return told(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream_));
  }

 private:
  cudaStream_t stream_;
  void* memory_ = nullptr;
};

#endif
#endif
