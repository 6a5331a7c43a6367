// osa's operators for ONNX Runtime's CUDA provider.
#ifndef OSA_ORT_ATTENTION_CUDA_OP_H
#define OSA_ORT_ATTENTION_CUDA_OP_H

#include "attention_cuda.h"
#include "operands.h"

template <class T, bool COMPLETED>
class CudaAttentionKernel {
 public:
  explicit CudaAttentionKernel(const OrtKernelInfo* info) : attributes_(info) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* raw) {
    try {
      const Ort::KernelContext context(raw);
      const AttentionOperands<COMPLETED> operands(context, attributes_);
      OsaCudaCall call{};
      call.query = operands.query.GetTensorRawData();
      call.key = operands.key.GetTensorRawData();
      call.value = operands.value.GetTensorRawData();
      call.output = context.GetOutput(0, operands.shape).GetTensorMutableRawData();
      call.alpha = operands.alpha;
      call.cu_seqlens = operands.cu_seqlens, call.sequences = operands.sequences;
      call.mask = operands.mask;
      call.batch = operands.shape[0], call.length = operands.shape[1];
      call.heads = operands.shape[2], call.head_dim = operands.shape[3];
      call.dtype = std::is_same_v<T, float>             ? int32_t(OSA_CUDA_FLOAT32)
                   : std::is_same_v<T, Ort::BFloat16_t> ? int32_t(OSA_CUDA_BFLOAT16)
                                                        : int32_t(OSA_CUDA_FLOAT16);
      call.by_length = attributes_.scale == OSA_SCALE_LENGTH, call.center = attributes_.center;
      call.stream = context.GetGPUComputeStream();
      const OsaCompletion& terms = operands.completion;
      const OsaCudaCompletion completion{terms.sides, terms.side_stride, terms.identity, terms.mixed,
                                         terms.pool,  terms.taps,        terms.reach,    terms.gated};
      call.completion = COMPLETED ? &completion : nullptr;
      if (const char* error = osa_attention_cuda(&call)) Signature<COMPLETED>::refuse(error);
      return nullptr;
    } catch (const std::exception& error) {
      return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
    }
  }

 private:
  AttentionAttributes<COMPLETED> attributes_;
};

template <class T, bool COMPLETED>
struct CudaAttentionOp
    : AttentionOpBase<CudaAttentionOp<T, COMPLETED>, CudaAttentionKernel<T, COMPLETED>, T, COMPLETED> {
  const char* GetExecutionProviderType() const { return "CUDAExecutionProvider"; }
  // Offsets are read on the host, where they say how the work is split.
  OrtMemType GetInputMemoryType(size_t index) const {
    return index == Signature<COMPLETED>::places ? OrtMemTypeCPUInput : OrtMemTypeDefault;
  }
};

#endif
