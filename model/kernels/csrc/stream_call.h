// A call about one chunk of a sequence: checks and threads; see osa_stream.h.
#ifndef OSA_STREAM_CALL_H
#define OSA_STREAM_CALL_H

#include "batch.h"
#include "instruction_sets.h"
#include "threads.h"

namespace osa {
namespace {

constexpr int64_t APPLIED_AT_ONCE = 1024;  // tokens of a head that a thread takes

inline Code stream(const OsaStreamCall& call) {
  const OsaCall& chunk = call.chunk;
  if (chunk.abi_version != OSA_ABI_VERSION) return ABI;
  const bool sized = chunk.heads >= 0 && chunk.length >= 0 && chunk.head_dim >= 1 && chunk.head_dim <= 128 &&
                     chunk.threads >= 1 && chunk.length <= INT32_MAX && call.count >= 0;
  if (!sized || call.stage < OSA_STREAM_MEANS || call.stage > OSA_STREAM_APPLY || call.first < 0) return SHAPE;
  if (chunk.dtype != OSA_FLOAT32 && chunk.dtype != OSA_BFLOAT16) return DTYPE;
  const OsaBackend& kernel = backend();
  const bool applied = call.stage == OSA_STREAM_APPLY;
  const int64_t pieces = applied ? (chunk.length + APPLIED_AT_ONCE - 1) / APPLIED_AT_ONCE : 1;
  const bool fine = for_each(chunk, chunk.heads * pieces, 1, kernel.workspace_bytes(&chunk),
                             [&](int64_t index, void* memory) {
                               const int64_t from = index % pieces * APPLIED_AT_ONCE;
                               const int64_t to = std::min(from + APPLIED_AT_ONCE, chunk.length);
                               kernel.stream(&call, index / pieces, from, applied ? to : chunk.length, memory);
                             });
  return fine ? OK : MEMORY;
}

}  // namespace
}  // namespace osa
#endif
