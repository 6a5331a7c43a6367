// The C interface: checks, choice of instruction set, sequences, threads.
#include <cstring>

#include "backend.h"
#include "batch.h"
#include "instruction_sets.h"
#include "pieces.h"
#if !defined(OSA_ATTENTION_ALONE)
#include "recurrence_call.h"
#include "stream_call.h"
#endif

namespace osa {
namespace {

void clear_padding(const OsaCall& call, int64_t head) {
  const size_t size = call.dtype == OSA_BFLOAT16 ? 2 : 4;
  for (int64_t b = 0; b < call.batch; ++b)
    for (int64_t i = 0; i < call.length; ++i)
      if (!call.mask[b * call.length + i])
        std::memset(static_cast<char*>(call.output.data) +
                        size * (b * call.output.batch_stride + head * call.output.head_stride +
                                i * call.output.token_stride),
                    0, size * static_cast<size_t>(call.head_dim));
}

Code run(const OsaCall& call) {
  if (call.abi_version != OSA_ABI_VERSION) return ABI;
  if (call.batch < 0 || call.heads < 0 || call.length < 0 || call.head_dim < 1 ||
      call.head_dim > 128 || call.threads < 1 || call.length > INT32_MAX)
    return SHAPE;
  if (call.dtype != OSA_FLOAT32 && call.dtype != OSA_BFLOAT16) return DTYPE;
  Batch batch;
  const Code code = batch.read(call);
  if (code != OK) return code;

  const OsaBackend& kernel = backend();
  const size_t bytes = kernel.workspace_bytes(&call);
  std::vector<const OsaSequence*> shorter;
  std::vector<Piece> pieces;
  int64_t slots = 0;
  for (const OsaSequence& sequence : batch.sequences) {
    const int64_t chunks = (sequence.count + OSA_CHUNK - 1) / OSA_CHUNK;
    if (chunks <= 1) {
      shorter.push_back(&sequence);
      continue;
    }
    for (int64_t chunk = 0; chunk < chunks; ++chunk) pieces.push_back({&sequence, chunk, chunks, slots});
    slots += chunks;
  }
  bool fine = true;
  const int64_t heads = call.heads;
  // Heads of a sequence share pages: a thread takes several, while every thread gets some.
  const int64_t tasks = static_cast<int64_t>(shorter.size()) * heads;
  const int64_t grain = std::max<int64_t>(1, std::min<int64_t>(heads, tasks / (8 * call.threads)));
  fine &= for_each(call, tasks, grain, bytes, [&](int64_t index, void* memory) {
    const OsaTask task{&call, shorter[static_cast<size_t>(index / heads)], index % heads, memory};
    kernel.whole(&task);
    if (call.completion) complete_whole(kernel, task);
  });
  if (!pieces.empty()) fine &= run_pieces(call, kernel, pieces, slots);
  if (!pieces.empty() && call.completion) fine &= complete_pieces(call, kernel, pieces, slots);
  if (call.mask)
    fine &= for_each(call, heads, 1, 1, [&](int64_t head, void*) { clear_padding(call, head); });
  return fine ? OK : MEMORY;
}

#if !defined(OSA_ATTENTION_ALONE)

constexpr int64_t QUERIES = 512;  // of one task: packing the keys costs little beside

Code softmax(const OsaSoftmaxCall& call) {
  const int32_t* offsets = call.cu_seqlens;
  if (offsets[0] != 0 || offsets[call.sequences] != call.length) return OFFSETS;
  std::vector<OsaSoftmaxTask> tasks;
  int64_t longest = 0;
  for (int64_t s = 0; s < call.sequences; ++s) {
    const int64_t first = offsets[s], count = offsets[s + 1] - first;
    if (count < 0) return OFFSETS;
    longest = std::max(longest, count);
    for (int64_t from = 0; from < count; from += QUERIES)
      for (int64_t head = 0; head < call.heads; ++head)
        tasks.push_back({&call, head, first, count, from, std::min(from + QUERIES, count)});
  }
  if (call.bias && (call.reach < longest || call.bias_row < 2 * call.reach + 63)) return SHAPE;
  const OsaBackend& kernel = backend();
  const int64_t count = static_cast<int64_t>(tasks.size());
  const int64_t grain = std::max<int64_t>(1, std::min<int64_t>(call.heads, count / (8 * call.threads)));
  const bool fine = for_each(call, count, grain, kernel.softmax_bytes(&call, longest),
                             [&](int64_t index, void* memory) {
                               kernel.softmax(&tasks[static_cast<size_t>(index)], memory);
                             });
  return fine ? OK : MEMORY;
}

// Rows in equal parts, as many as there are threads or a multiple: weights are read once for each.
Code transform(const OsaTransformCall& call) {
  const OsaTransform& kernel = products().transforms[call.dtype];
  const int64_t whole = (call.rows + kernel.most - 1) / kernel.most, threads = call.threads;
  const int64_t parts = std::max<int64_t>(1, (whole + threads - 1) / threads * threads);
  const int64_t steps = ((call.rows + parts - 1) / parts + kernel.step - 1) / kernel.step;
  const int64_t size = std::max<int64_t>(1, steps) * kernel.step;
  const bool fine = for_each(call, (call.rows + size - 1) / size, 1, kernel.bytes(&call, size),
                             [&](int64_t part, void* memory) {
                               kernel.rows(&call, part * size, std::min((part + 1) * size, call.rows), memory);
                             });
  return fine ? OK : MEMORY;
}

#endif

}  // namespace
}  // namespace osa

extern "C" {

#if !defined(OSA_ATTENTION_ALONE)

int osa_transform(const OsaTransformCall* call) {
  if (call->abi_version != OSA_ABI_VERSION) return osa::ABI;
  if (call->dtype != OSA_FLOAT32 && call->dtype != OSA_BFLOAT16 && call->dtype != OSA_INT8) return osa::DTYPE;
  const int64_t unit = call->dtype == OSA_INT8 ? 64 : 32;
  const bool sized = call->rows >= 0 && call->width >= unit && call->width % unit == 0 && call->features >= 1 &&
                     call->features <= call->width && call->threads >= 1;
  const bool feeds = call->mixed && call->up.weight;
  if (!sized || (feeds && (call->inner < unit || call->inner % unit))) return osa::SHAPE;
  if (call->side.weight && (call->side_width < 1 || call->side_width % unit)) return osa::SHAPE;
  if (call->qkv.weight) {
    const int64_t head = call->heads < 1 || call->features % call->heads ? 0 : call->features / call->heads;
    if (head < 1 || head > 128 || (call->cosine && head % 2)) return osa::SHAPE;
    if (call->parts < 1 || call->turned < 0 || call->turned > call->parts) return osa::SHAPE;
  }
  try {
    return osa::transform(*call);
  } catch (...) {
    return osa::MEMORY;
  }
}

int osa_rows(const OsaRowsCall* call) {
  if (call->abi_version != OSA_ABI_VERSION) return osa::ABI;
  if (call->count < 0 || call->width < 1 || call->threads < 1) return osa::SHAPE;
  const OsaBackend& kernel = osa::backend();
  const int64_t part = std::max<int64_t>(1, 65536 / call->width);  // rows that are worth a thread
  try {
    const bool fine = osa::for_each(*call, (call->count + part - 1) / part, 1, 1, [&](int64_t index, void*) {
      kernel.rows(call, index * part, std::min((index + 1) * part, call->count));
    });
    return fine ? osa::OK : osa::MEMORY;
  } catch (...) {
    return osa::MEMORY;
  }
}

int osa_softmax(const OsaSoftmaxCall* call) {
  if (call->abi_version != OSA_ABI_VERSION) return osa::ABI;
  const bool sized = call->heads >= 0 && call->length >= 0 && call->head_dim >= 1 && call->head_dim <= 128 &&
                     call->sequences >= 0 && call->threads >= 1 && call->length <= INT32_MAX;
  if (!sized) return osa::SHAPE;
  if (call->dtype != OSA_FLOAT32 && call->dtype != OSA_BFLOAT16) return osa::DTYPE;
  try {
    return osa::softmax(*call);
  } catch (...) {
    return osa::MEMORY;
  }
}

int osa_stream(const OsaStreamCall* call) {
  try {
    return osa::stream(*call);
  } catch (...) {
    return osa::MEMORY;
  }
}

int osa_recurrence(const OsaRecurrenceCall* call) {
  try {
    return osa::recurrence(*call);
  } catch (...) {
    return osa::MEMORY;
  }
}

int osa_pool(const OsaPoolCall* call) {
  if (call->abi_version != OSA_ABI_VERSION) return osa::ABI;
  if (call->length < 0 || call->width < 1 || call->sequences < 0 || call->threads < 1) return osa::SHAPE;
  const int32_t* const offsets = call->cu_seqlens;
  bool rising = offsets[0] == 0 && offsets[call->sequences] == call->length;
  for (int64_t s = 0; s < call->sequences; ++s) rising &= offsets[s] <= offsets[s + 1];
  if (!rising) return osa::OFFSETS;
  const OsaBackend& kernel = osa::backend();
  const int64_t rows = 1 + call->length / (1 + call->sequences);
  const int64_t grain = std::max<int64_t>(1, 65536 / (rows * call->width));  // sequences that are worth a thread
  try {
    const bool fine = osa::for_each(*call, call->sequences, grain, 1, [&](int64_t sequence, void*) {
      kernel.pool(call, sequence);
    });
    return fine ? osa::OK : osa::MEMORY;
  } catch (...) {
    return osa::MEMORY;
  }
}

#endif

int osa_attention(const OsaCall* call) {
  try {
    return osa::run(*call);
  } catch (...) {  // std::bad_alloc or std::system_error; neither may cross a C interface
    return osa::MEMORY;
  }
}

const char* osa_attention_error(int code) {
  static const char* const text[] = {
      "done",
      "the library was built for another version of the interface",
      "sizes must not be negative, head_dim 1 to 128, threads at least 1, widths of products multiples of 32",
      "dtype must be float32 or bfloat16, for products also int8",
      "cu_seqlens must rise from 0 to the packed length",
      "out of memory or threads",
  };
  return code >= 0 && code <= osa::MEMORY ? text[code] : "unknown error";
}

int64_t osa_abi_version(void) { return OSA_ABI_VERSION; }

const char* osa_instruction_sets(void) {
  static const std::string names = osa::names_of(osa::sets().backends);
  return names.c_str();
}
const char* osa_instruction_set(void) { return osa::backend().name; }
int osa_use_instruction_set(const char* name) { return osa::choose(osa::sets().backends, name, osa::chosen); }

#if !defined(OSA_ATTENTION_ALONE)
const char* osa_product_sets(void) {
  static const std::string names = osa::names_of(osa::sets().products);
  return names.c_str();
}
const char* osa_product_set(void) { return osa::products().name; }
int osa_use_product_set(const char* name) { return osa::choose(osa::sets().products, name, osa::chosen_products); }
#endif

}  // extern "C"
