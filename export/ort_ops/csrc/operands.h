// What every kernel of osa's operators reads from ONNX Runtime, and its checks.
//
// OrthogonalAttention(query, key, value, alpha, cu_seqlens?, mask?)
// CompletedAttention(query, key, value, alpha, identity, mixed, pool?, taps?, side?, cu_seqlens?, mask?)
#ifndef OSA_ORT_OPERANDS_H
#define OSA_ORT_OPERANDS_H

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <string>
#include <vector>

#include "osa_attention.h"

using Sizes = std::vector<int64_t>;

template <bool COMPLETED>
struct Signature {
  static constexpr const char* name = COMPLETED ? "CompletedAttention" : "OrthogonalAttention";
  static constexpr size_t required = COMPLETED ? 6 : 4, places = COMPLETED ? 9 : 4, inputs = places + 2;

  [[noreturn]] static void refuse(const std::string& message) {
    ORT_CXX_API_THROW(std::string("osa::") + name + ": " + message, ORT_INVALID_ARGUMENT);
  }
};

inline Sizes shape_of(const Ort::ConstValue& value) { return value.GetTensorTypeAndShapeInfo().GetShape(); }

inline std::string text(const Sizes& sizes) {
  std::string joined;
  for (const int64_t size : sizes) joined += (joined.empty() ? "" : ", ") + std::to_string(size);
  return "[" + joined + "]";
}

// An input that may be absent: then it is null.
inline Ort::ConstValue input(const Ort::KernelContext& context, size_t index) {
  return index < context.GetInputCount() ? context.GetInput(index) : Ort::ConstValue{nullptr};
}

template <bool COMPLETED>
struct AttentionAttributes {
  int32_t scale = OSA_SCALE_PAPER, center = 0, gated = 0;

  explicit AttentionAttributes(const OrtKernelInfo* info) {
    const Ort::ConstKernelInfo node(info);
    std::string asked = "paper";
    try {
      asked = node.GetAttribute<std::string>("scale");
    } catch (const Ort::Exception&) {  // absent: the default
    }
    if (asked != "paper" && asked != "length")
      Signature<COMPLETED>::refuse("scale must be paper or length, got " + asked);
    scale = asked == "length" ? OSA_SCALE_LENGTH : OSA_SCALE_PAPER;
    center = flag(node, "center");
    if (COMPLETED) gated = flag(node, "gated");
  }

 private:
  static int32_t flag(const Ort::ConstKernelInfo& node, const char* name) {
    try {
      return node.GetAttribute<int64_t>(name) != 0;
    } catch (const Ort::Exception&) {
      return 0;
    }
  }
};

// Inputs [B, N, H, d] as they lie in memory; offsets and mask are null where absent.
template <bool COMPLETED>
struct AttentionOperands {
  using Own = Signature<COMPLETED>;
  Sizes shape;
  Ort::ConstValue query, key, value;
  const float* alpha;
  const int32_t* cu_seqlens = nullptr;
  int64_t sequences = 0;
  const uint8_t* mask = nullptr;
  OsaCompletion completion{};  // read only where COMPLETED

  AttentionOperands(const Ort::KernelContext& context, const AttentionAttributes<COMPLETED>& attributes)
      : query(context.GetInput(0)), key(context.GetInput(1)), value(context.GetInput(2)) {
    shape = shape_of(query);
    if (shape.size() != 4 || shape_of(key) != shape || shape_of(value) != shape)
      Own::refuse("query, key and value must share one shape [B, N, H, d], got " + text(shape) + ", " +
                  text(shape_of(key)) + ", " + text(shape_of(value)));
    if (shape[3] < 1 || shape[3] > 128) Own::refuse("head width must be 1 to 128, got " + text(shape));
    alpha = heads(context.GetInput(3), "alpha");
    const Ort::ConstValue offsets = input(context, Own::places), places = input(context, Own::places + 1);
    if (offsets && places) Own::refuse("cu_seqlens and mask must not be given together");
    if (offsets) {
      const Sizes sizes = shape_of(offsets);
      if (sizes.size() != 1 || sizes[0] < 1 || shape[0] != 1)
        Own::refuse("cu_seqlens must be [S + 1] with a batch of 1, got " + text(sizes) + " and " + text(shape));
      cu_seqlens = offsets.GetTensorData<int32_t>();
      sequences = sizes[0] - 1;
    }
    if (places) {
      if (shape_of(places) != Sizes{shape[0], shape[1]})
        Own::refuse("mask must be [B, N], got " + text(shape_of(places)) + " beside " + text(shape));
      mask = reinterpret_cast<const uint8_t*>(places.GetTensorData<bool>());
    }
    if (COMPLETED) complete(context, attributes.gated);
  }

 private:
  // One number a head.
  const float* heads(const Ort::ConstValue& weights, const char* name) const {
    if (shape_of(weights) != Sizes{shape[2]})
      Own::refuse(std::string(name) + " must be one number a head, got " + text(shape_of(weights)));
    return weights.GetTensorData<float>();
  }

  void complete(const Ort::KernelContext& context, int32_t gated) {
    completion.identity = heads(context.GetInput(4), "identity");
    completion.mixed = heads(context.GetInput(5), "mixed");
    completion.gated = gated;
    const Ort::ConstValue pool = input(context, 6), taps = input(context, 7), side = input(context, 8);
    if (pool) completion.pool = heads(pool, "pool");
    if (taps) {
      const Sizes sizes = shape_of(taps);
      if (sizes.size() != 2 || sizes[0] != shape[2] || sizes[1] % 2)
        Own::refuse("taps must be [H, 2 R], got " + text(sizes) + " with " + std::to_string(shape[2]) + " heads");
      completion.taps = taps.GetTensorData<float>();
      completion.reach = sizes[1] / 2;
    }
    const int64_t count = shape[2] * ((pool ? 1 : 0) + (gated ? (pool ? 3 : 2) : 0));
    if (!count != !side || (side && shape_of(side) != Sizes{shape[0], shape[1], count}))
      Own::refuse("side must be " + (count ? text({shape[0], shape[1], count}) : std::string("absent")) +
                  " with this pool and these gates, got " + (side ? text(shape_of(side)) : std::string("none")));
    if (!side) return;
    completion.sides = side.GetTensorData<float>();
    completion.side_stride = count;
  }
};

// The schema, for ONNX Runtime: the same for every element type and device.
template <class Op, class Kernel, class T, bool COMPLETED>
struct AttentionOpBase : Ort::CustomOpBase<Op, Kernel, true> {
  using Own = Signature<COMPLETED>;
  const char* GetName() const { return Own::name; }
  size_t GetInputTypeCount() const { return Own::inputs; }
  ONNXTensorElementDataType GetInputType(size_t index) const {
    if (index < 3) return Ort::TypeToTensorType<T>::type;
    if (index < Own::places) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    return index == Own::places ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 : ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(size_t index) const {
    return index < Own::required ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return Ort::TypeToTensorType<T>::type; }

  // The shape of the states. The runtime gives -1 for a size that it does not know, and would take it for a size of the
  // output, which then fits nothing: with such a size no shape is told.
  static Ort::Status InferOutputShape(Ort::ShapeInferContext& context) {
    Ort::ShapeInferContext::Shape shape = context.GetInputShape(0);
    for (size_t other = 1; other < 3; ++other) {
      const Ort::ShapeInferContext::Shape& same = context.GetInputShape(other);
      for (size_t i = 0; i < shape.size() && i < same.size(); ++i)
        if (unknown(shape[i])) shape[i] = same[i];
    }
    for (const auto& size : shape)
      if (unknown(size)) return Ort::Status{nullptr};
    return context.SetOutputShape(0, shape, Ort::TypeToTensorType<T>::type);
  }
  static bool unknown(const Ort::ShapeInferContext::SymbolicInteger& size) { return size.IsInt() && size.AsInt() < 0; }

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
