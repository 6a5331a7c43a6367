// What every kernel of osa::OrthogonalAttention reads from ONNX Runtime, and its checks.
#ifndef OSA_ORT_OPERANDS_H
#define OSA_ORT_OPERANDS_H

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <string>
#include <vector>

#include "osa_attention.h"

struct AttentionAttributes {
  int32_t scale = OSA_SCALE_PAPER, center = 0;

  explicit AttentionAttributes(const OrtKernelInfo* info) {
    const Ort::ConstKernelInfo node(info);
    std::string name = "paper";
    int64_t flag = 0;
    try {
      name = node.GetAttribute<std::string>("scale");
    } catch (const Ort::Exception&) {  // absent: the default
    }
    try {
      flag = node.GetAttribute<int64_t>("center");
    } catch (const Ort::Exception&) {
    }
    if (name != "paper" && name != "length")
      ORT_CXX_API_THROW("osa::OrthogonalAttention: scale must be paper or length, got " + name,
                        ORT_INVALID_ARGUMENT);
    scale = name == "length" ? OSA_SCALE_LENGTH : OSA_SCALE_PAPER;
    center = flag != 0;
  }
};

// Inputs [B, N, H, d] as they lie in memory; offsets and mask are null where absent.
struct AttentionOperands {
  std::vector<int64_t> shape;
  Ort::ConstValue query, key, value;
  const float* alpha;
  const int32_t* cu_seqlens = nullptr;
  int64_t sequences = 0;
  const uint8_t* mask = nullptr;

  explicit AttentionOperands(const Ort::KernelContext& context)
      : query(context.GetInput(0)), key(context.GetInput(1)), value(context.GetInput(2)) {
    shape = shape_of(query);
    if (shape.size() != 4 || shape_of(key) != shape || shape_of(value) != shape)
      refuse("query, key and value must share one shape [B, N, H, d], got " + text(shape) + ", " +
             text(shape_of(key)) + ", " + text(shape_of(value)));
    if (shape[3] < 1 || shape[3] > 128) refuse("head width must be 1 to 128, got " + text(shape));
    const Ort::ConstValue angles = context.GetInput(3);
    if (shape_of(angles) != std::vector<int64_t>{shape[2]})
      refuse("alpha must be one number a head, got " + text(shape_of(angles)));
    alpha = angles.GetTensorData<float>();
    const size_t inputs = context.GetInputCount();
    const Ort::ConstValue offsets = inputs > 4 ? context.GetInput(4) : Ort::ConstValue{nullptr};
    const Ort::ConstValue places = inputs > 5 ? context.GetInput(5) : Ort::ConstValue{nullptr};
    if (offsets && places) refuse("cu_seqlens and mask must not be given together");
    if (offsets) {
      const std::vector<int64_t> sizes = shape_of(offsets);
      if (sizes.size() != 1 || sizes[0] < 1 || shape[0] != 1)
        refuse("cu_seqlens must be [S + 1] with a batch of 1, got " + text(sizes) + " and " + text(shape));
      cu_seqlens = offsets.GetTensorData<int32_t>();
      sequences = sizes[0] - 1;
    }
    if (places) {
      if (shape_of(places) != std::vector<int64_t>{shape[0], shape[1]})
        refuse("mask must be [B, N], got " + text(shape_of(places)) + " beside " + text(shape));
      mask = reinterpret_cast<const uint8_t*>(places.GetTensorData<bool>());
    }
  }

  static std::vector<int64_t> shape_of(const Ort::ConstValue& value) {
    return value.GetTensorTypeAndShapeInfo().GetShape();
  }

  [[noreturn]] static void refuse(const std::string& message) {
    ORT_CXX_API_THROW("osa::OrthogonalAttention: " + message, ORT_INVALID_ARGUMENT);
  }

 private:
  static std::string text(const std::vector<int64_t>& sizes) {
    std::string joined;
    for (const int64_t size : sizes) joined += (joined.empty() ? "" : ", ") + std::to_string(size);
    return "[" + joined + "]";
  }
};

// The schema, for ONNX Runtime: the same for every element type and device.
template <class Op, class Kernel, class T>
struct AttentionOpBase : Ort::CustomOpBase<Op, Kernel, true> {
  const char* GetName() const { return "OrthogonalAttention"; }
  size_t GetInputTypeCount() const { return 6; }
  ONNXTensorElementDataType GetInputType(size_t index) const {
    if (index < 3) return Ort::TypeToTensorType<T>::type;
    if (index == 3) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    return index == 4 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 : ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    return index < 4 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return Ort::TypeToTensorType<T>::type; }

  static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
    return context.SetOutputShape(0, context.GetInputShape(0), Ort::TypeToTensorType<T>::type);
  }
  OrtStatusPtr CreateKernelV2(const OrtApi& api, const OrtKernelInfo* info, void** kernel) const {
    try {
      *kernel = new Kernel(info);
      return nullptr;
    } catch (const std::exception& error) {
      return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
    }
  }
};

#endif
