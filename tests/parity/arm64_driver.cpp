// Runs one OsaTransformCall on every product set of this machine: arm64_driver INPUTS OUTPUTS.
// Inputs: seven sizes, then arrays, each after its length in bytes; -1 for none. Outputs: of every set its
// name, the hidden states and the states, each after its length.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "osa_transform.h"

namespace {

FILE* inputs;
FILE* outputs;

int64_t number() {
  int64_t value;
  if (std::fread(&value, sizeof(value), 1, inputs) != 1) std::exit(2);
  return value;
}

// Lives until the process ends; aligned as torch aligns it.
template <class T>
T* array() {
  const int64_t bytes = number();
  if (bytes < 0) return nullptr;
  void* const memory = std::aligned_alloc(64, (bytes / 64 + 1) * 64);
  if (std::fread(memory, 1, bytes, inputs) != static_cast<size_t>(bytes)) std::exit(2);
  return static_cast<T*>(memory);
}

OsaLayer layer() {
  OsaLayer found = {array<void>(), array<float>(), array<float>(), array<float>()};
  return found;
}

void put(const void* data, int64_t bytes) {
  std::fwrite(&bytes, sizeof(bytes), 1, outputs);
  std::fwrite(data, 1, bytes, outputs);
}

}  // namespace

int main(int, char** arguments) {
  inputs = std::fopen(arguments[1], "rb");
  outputs = std::fopen(arguments[2], "wb");
  OsaTransformCall call = {};
  call.abi_version = OSA_ABI_VERSION;
  call.rows = number(), call.width = number(), call.inner = number(), call.features = number();
  call.heads = number(), call.dtype = static_cast<int32_t>(number()), call.threads = static_cast<int32_t>(number());
  call.norm_epsilon = call.head_epsilon = 1e-6f;
  call.residual = call.normalize = 1;
  call.parts = 3, call.turned = 2;
  call.out = layer(), call.up = layer(), call.down = layer(), call.qkv = layer();
  call.feed_forward_norm.weight = array<float>();
  call.mixer_norm.weight = array<float>();
  const float* const hidden = array<float>();
  call.mixed = array<void>();
  call.cosine = array<float>();
  call.sine = array<float>();
  const std::string sets = osa_product_sets();
  for (size_t from = 0; from < sets.size();) {
    const size_t end = std::min(sets.find(' ', from), sets.size());
    const std::string name = sets.substr(from, end - from);
    std::vector<float> states_of(hidden, hidden + call.rows * call.width);
    std::vector<float> states(3 * call.rows * call.width);
    call.hidden = states_of.data(), call.states = states.data();
    if (!osa_use_product_set(name.c_str())) return 3;
    if (const int code = osa_transform(&call)) return std::printf("%s\n", osa_attention_error(code)), 4;
    put(name.data(), static_cast<int64_t>(name.size()));
    put(states_of.data(), call.rows * call.width * 4);
    put(states.data(), 3 * call.rows * call.width * (call.dtype == OSA_FLOAT32 ? 4 : 2));
    from = end + 1;
  }
  std::fclose(outputs);
  return 0;
}
