// RegisterCustomOps: what ONNX Runtime calls when the library is loaded.
#include "attention_op.h"
#if defined(OSA_CUDA)
#include "attention_cuda_op.h"
#endif

namespace {

template <class... Ops>
void add_all(Ort::CustomOpDomain& domain, Ops*... ops) {
  (domain.Add(ops), ...);
}

template <bool COMPLETED>
void add_types(Ort::CustomOpDomain& domain) {
  static const AttentionOp<float, COMPLETED> single;
  static const AttentionOp<Ort::Float16_t, COMPLETED> half;
  static const AttentionOp<Ort::BFloat16_t, COMPLETED> brain;
  add_all(domain, &single, &half, &brain);
#if defined(OSA_CUDA)
  static const CudaAttentionOp<float, COMPLETED> cuda_single;
  static const CudaAttentionOp<Ort::Float16_t, COMPLETED> cuda_half;
  static const CudaAttentionOp<Ort::BFloat16_t, COMPLETED> cuda_brain;
  add_all(domain, &cuda_single, &cuda_half, &cuda_brain);
#endif
}

OrtStatus* register_ops(OrtSessionOptions* options) {
  static Ort::CustomOpDomain domain{"osa"};
  static const bool added = [] {
    add_types<false>(domain);
    add_types<true>(domain);
    return true;
  }();
  (void)added;
  return Ort::GetApi().AddCustomOpDomain(options, domain);
}

}  // namespace

extern "C" OSA_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                                const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (!api) {
    static const std::string message = "the operators of osa were built for ONNX Runtime's API " +
                                       std::to_string(ORT_API_VERSION) +
                                       ", which this runtime is too old for";
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  Ort::InitApi(api);
  try {
    return register_ops(options);
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}
