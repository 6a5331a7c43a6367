// Embeds one sequence of token ids from C++:  embed MODEL.onnx LIBRARY.so ID ID ID ...
//   c++ -std=c++17 embed.cpp -I$ORT_INCLUDE_DIR libonnxruntime.so -o embed
#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int count, char** arguments) try {
  if (count < 4) {
    std::fprintf(stderr, "usage: embed MODEL.onnx LIBRARY.so ID...\n");
    return 2;
  }
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "embed");
  Ort::SessionOptions options;
  options.RegisterCustomOpsLibrary(arguments[2]);  // without it the model runs its own body
  Ort::Session session(env, arguments[1], options);

  std::vector<int64_t> ids;
  for (int i = 3; i < count; ++i) ids.push_back(std::atoll(arguments[i]));
  std::vector<int32_t> cu_seqlens{0, static_cast<int32_t>(ids.size())};  // one sequence
  const int64_t tokens = static_cast<int64_t>(ids.size()), offsets = 2;

  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> inputs;
  inputs.push_back(Ort::Value::CreateTensor<int64_t>(memory, ids.data(), ids.size(), &tokens, 1));
  inputs.push_back(Ort::Value::CreateTensor<int32_t>(memory, cu_seqlens.data(), 2, &offsets, 1));
  const char* input_names[] = {"input_ids", "cu_seqlens"};
  const char* output_names[] = {"embeddings"};
  const auto outputs =
      session.Run(Ort::RunOptions{}, input_names, inputs.data(), 2, output_names, 1);

  const float* vector = outputs[0].GetTensorData<float>();
  const size_t width = outputs[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t i = 0; i < width; ++i) std::printf("%.9g\n", vector[i]);
  return 0;
} catch (const Ort::Exception& error) {
  std::fprintf(stderr, "embed: %s\n", error.what());
  return 1;
}
