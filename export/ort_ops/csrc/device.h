// What the CUDA kernels use of the device; with OSA_HOST_EMULATION of one on the host.
#ifndef OSA_DEVICE_H
#define OSA_DEVICE_H

#include <cmath>
#include <cstddef>
#include <cstdint>

constexpr int LOGICAL_THREADS = 256;

#if defined(OSA_HOST_EMULATION)
#include "emulated_device.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

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

// Whether the architecture that this is compiled for multiplies matrices of a type: float16 from sm_70 on, bfloat16
// from sm_80 on.
template <class In>
constexpr bool TENSOR_CORES = false;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 700
template <>
constexpr bool TENSOR_CORES<__half> = true;
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
constexpr bool TENSOR_CORES<__nv_bfloat16> = true;
#endif

// Tiles of 16 x 16, held by 32 threads together; rows lie side by side in memory.
template <class In>
using LeftTile = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, In, nvcuda::wmma::row_major>;
template <class In>
using RightTile = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, In, nvcuda::wmma::row_major>;
using SumTile = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

__device__ __forceinline__ void clear(SumTile& tile) { nvcuda::wmma::fill_fragment(tile, 0.0f); }
// `from` is aligned to 32 bytes, `row` a multiple of 8 elements.
template <class Tile, class In>
__device__ __forceinline__ void read(Tile& tile, const In* from, int row) {
  nvcuda::wmma::load_matrix_sync(tile, from, static_cast<unsigned>(row));
}
template <class Left, class Right>
__device__ __forceinline__ void multiply_tiles(SumTile& sum, const Left& left, const Right& right) {
  nvcuda::wmma::mma_sync(sum, left, right, sum);
}
__device__ __forceinline__ void write(const SumTile& tile, float* to, int row) {
  nvcuda::wmma::store_matrix_sync(to, tile, static_cast<unsigned>(row), nvcuda::wmma::mem_row_major);
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
