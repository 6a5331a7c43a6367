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

OrtStatus* register_ops(OrtSessionOptions* options) {
  static const AttentionOp<float> single;
  static const AttentionOp<Ort::Float16_t> half;
  static const AttentionOp<Ort::BFloat16_t> brain;
  static Ort::CustomOpDomain domain{"osa"};
  static const bool added = [] {
    add_all(domain, &single, &half, &brain);
#if defined(OSA_CUDA)
    static const CudaAttentionOp<float> cuda_single;
    static const CudaAttentionOp<Ort::Float16_t> cuda_half;
    static const CudaAttentionOp<Ort::BFloat16_t> cuda_brain;
    add_all(domain, &cuda_single, &cuda_half, &cuda_brain);
#endif
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
    static const std::string message = "osa::OrthogonalAttention was built for ONNX Runtime's API " +
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
