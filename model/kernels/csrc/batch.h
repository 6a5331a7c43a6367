// The sequences of a call: packed, or padded with or without a mask.
#ifndef OSA_BATCH_H
#define OSA_BATCH_H

#include <vector>

#include "backend.h"

namespace osa {
namespace {

enum Code { OK, ABI, SHAPE, DTYPE, OFFSETS, MEMORY };

struct Batch {
  std::vector<OsaSequence> sequences;
  std::vector<int32_t> tokens;  // of masked rows, one after the other

  Code read(const OsaCall& call) {
    if (call.cu_seqlens) return read_packed(call);
    if (!call.mask) {
      for (int64_t b = 0; b < call.batch; ++b) sequences.push_back({b, 0, call.length, nullptr});
      return OK;
    }
    tokens.reserve(static_cast<size_t>(call.batch * call.length));
    for (int64_t b = 0; b < call.batch; ++b) read_masked(call, b);
    return OK;
  }

 private:
  Code read_packed(const OsaCall& call) {
    const int32_t* offsets = call.cu_seqlens;
    if (call.batch != 1 || offsets[0] != 0 || offsets[call.sequences] != call.length) return OFFSETS;
    for (int64_t s = 0; s < call.sequences; ++s) {
      if (offsets[s] > offsets[s + 1]) return OFFSETS;
      if (offsets[s] < offsets[s + 1])
        sequences.push_back({0, offsets[s], offsets[s + 1] - offsets[s], nullptr});
    }
    return OK;
  }

  void read_masked(const OsaCall& call, int64_t b) {
    const uint8_t* mask = call.mask + b * call.length;
    const size_t start = tokens.size();  // reserved: addresses stay
    for (int64_t i = 0; i < call.length; ++i)
      if (mask[i]) tokens.push_back(static_cast<int32_t>(i));
    const int64_t count = static_cast<int64_t>(tokens.size() - start);
    if (!count) return;
    const int32_t* list = tokens.data() + start;
    const bool run = list[count - 1] - list[0] + 1 == count;  // padding at the ends alone
    sequences.push_back({b, list[0], count, run ? nullptr : list});
  }
};

}  // namespace
}  // namespace osa
#endif
