// osa's operators on the CPU: the operator's own C++ source on ONNX Runtime's threads.
#ifndef OSA_ORT_ATTENTION_OP_H
#define OSA_ORT_ATTENTION_OP_H

#include <algorithm>
#include <thread>

#include "operands.h"

// Runs the kernel's work on the thread pool of the session that called it.
class SessionThreads {
 public:
  explicit SessionThreads(const OrtKernelContext* context) { current = context; }

  static void run(void (*function)(void*), void* data, unsigned threads, unsigned) {
    struct Job {
      void (*function)(void*);
      void* data;
    } job{function, data};
    const auto once = [](void* argument, size_t) {
      const Job* job = static_cast<const Job*>(argument);
      job->function(job->data);
    };
    Ort::ThrowOnError(Ort::GetApi().KernelContext_ParallelFor(current, once, threads, 0, &job));
  }

 private:
  inline static thread_local const OrtKernelContext* current = nullptr;
};

template <class T, bool COMPLETED>
class AttentionKernel {
 public:
  explicit AttentionKernel(const OrtKernelInfo* info)
      : attributes_(info), threads_(std::max(1u, std::thread::hardware_concurrency())) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* raw) {
    try {
      const Ort::KernelContext context(raw);
      const AttentionOperands<COMPLETED> operands(context, attributes_);
      T* output = context.GetOutput(0, operands.shape).template GetTensorMutableData<T>();
      const SessionThreads threads(raw);
      compute(operands, output);
      return nullptr;
    } catch (const std::exception& error) {
      return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
    }
  }

 private:
  static constexpr bool IS_HALF = std::is_same_v<T, Ort::Float16_t>;
  static constexpr int32_t DTYPE =
      std::is_same_v<T, Ort::BFloat16_t> ? int32_t(OSA_BFLOAT16) : int32_t(OSA_FLOAT32);

  void compute(const AttentionOperands<COMPLETED>& operands, T* output) const {
    const void* states[3] = {operands.query.GetTensorRawData(), operands.key.GetTensorRawData(),
                             operands.value.GetTensorRawData()};
    if constexpr (IS_HALF) {  // by way of float32, rounded once at the end
      size_t count = 1;
      for (const int64_t size : operands.shape) count *= static_cast<size_t>(size);
      std::vector<float> wide[3], result(count);
      for (int i = 0; i < 3; ++i) {
        const T* from = static_cast<const T*>(states[i]);
        wide[i].resize(count);
        std::transform(from, from + count, wide[i].begin(), [](T half) { return half.ToFloat(); });
        states[i] = wide[i].data();
      }
      call(operands, states, result.data());
      std::transform(result.begin(), result.end(), output, [](float full) { return T(full); });
    } else {
      call(operands, states, output);
    }
  }

  void call(const AttentionOperands<COMPLETED>& operands, const void* const* states, void* output) const {
    const int64_t length = operands.shape[1], heads = operands.shape[2], width = operands.shape[3];
    const auto tensor = [&](const void* data) {
      return OsaTensor{const_cast<void*>(data), length * heads * width, width, heads * width};
    };
    OsaCall call{};
    call.abi_version = OSA_ABI_VERSION;
    call.query = tensor(states[0]), call.key = tensor(states[1]), call.value = tensor(states[2]);
    call.output = tensor(output);
    call.alpha = operands.alpha;
    call.cu_seqlens = operands.cu_seqlens, call.sequences = operands.sequences;
    call.mask = operands.mask;
    call.completion = COMPLETED ? &operands.completion : nullptr;
    call.batch = operands.shape[0], call.heads = heads, call.length = length, call.head_dim = width;
    call.dtype = DTYPE, call.scale = attributes_.scale, call.center = attributes_.center;
    call.threads = static_cast<int32_t>(threads_);
    call.parallel = SessionThreads::run;
    if (const int code = osa_attention(&call))
      Signature<COMPLETED>::refuse(osa_attention_error(code));
  }

  AttentionAttributes<COMPLETED> attributes_;
  unsigned threads_;
};

template <class T, bool COMPLETED>
struct AttentionOp : AttentionOpBase<AttentionOp<T, COMPLETED>, AttentionKernel<T, COMPLETED>, T, COMPLETED> {
  const char* GetExecutionProviderType() const { return "CPUExecutionProvider"; }
};

#endif
