// A call of mixers whose tokens follow one another: checks and threads; see osa_recurrence.h.
#ifndef OSA_RECURRENCE_CALL_H
#define OSA_RECURRENCE_CALL_H

#include <algorithm>
#include <vector>

#include "batch.h"
#include "instruction_sets.h"
#include "threads.h"

namespace osa {
namespace {

inline Code recurrence(const OsaRecurrenceCall& call) {
  if (call.abi_version != OSA_ABI_VERSION) return ABI;
  const bool sized = call.heads >= 0 && call.length >= 0 && call.head_dim >= 1 && call.head_dim <= 128 &&
                     call.sequences >= 0 && call.threads >= 1 && call.length <= INT32_MAX;
  if (!sized || call.kind < OSA_PRISM || call.kind > OSA_CHELA) return SHAPE;
  if (call.dtype != OSA_FLOAT32 && call.dtype != OSA_BFLOAT16) return DTYPE;
  const int32_t* const offsets = call.cu_seqlens;
  if (offsets[0] != 0 || offsets[call.sequences] != call.length) return OFFSETS;
  std::vector<OsaRecurrenceTask> tasks;
  int64_t longest = 0;
  for (int64_t s = 0; s < call.sequences; ++s) {
    const int64_t first = offsets[s], count = offsets[s + 1] - first;
    if (count < 0) return OFFSETS;
    longest = std::max(longest, count);
    for (int64_t head = 0; count && head < call.heads; ++head) tasks.push_back({&call, head, first, count});
  }
  const OsaBackend& kernel = backend();
  const int64_t count = static_cast<int64_t>(tasks.size());
  const int64_t grain = std::max<int64_t>(1, std::min<int64_t>(call.heads, count / (8 * call.threads)));
  const bool fine = for_each(call, count, grain, kernel.recurrence_bytes(&call, longest),
                             [&](int64_t index, void* memory) {
                               kernel.recurrence(&tasks[static_cast<size_t>(index)], memory);
                             });
  return fine ? OK : MEMORY;
}

}  // namespace
}  // namespace osa
#endif
