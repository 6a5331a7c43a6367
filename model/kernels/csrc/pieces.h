// Sequences in chunks, spread over threads: those of more than OSA_CHUNK tokens.
#ifndef OSA_PIECES_H
#define OSA_PIECES_H

#include "backend.h"
#include "threads.h"

namespace osa {
namespace {

// A chunk of a long sequence; `slot` is the place of its first chunk among all.
struct Piece {
  const OsaSequence* sequence;
  int64_t chunk, chunks, slot;
};

// Long sequences, step by step; every step is spread over heads and, where it can be, chunks.
bool run_pieces(const OsaCall& call, const OsaBackend& kernel, const std::vector<Piece>& pieces,
                int64_t slots) {
  const size_t partial = kernel.partial_bytes(&call), bytes = kernel.workspace_bytes(&call);
  char* const memory =
      static_cast<char*>(partial_sums.at_least(static_cast<size_t>(slots * call.heads) * partial));
  if (!memory) return false;
  const int64_t count = static_cast<int64_t>(pieces.size()) * call.heads;
  std::vector<char> open(static_cast<size_t>(count), 1);
  const auto step = [&](bool once, const auto& work) {
    return for_each(call, count, 1, bytes, [&](int64_t index, void* workspace) {
      const Piece& piece = pieces[static_cast<size_t>(index / call.heads)];
      if (once && piece.chunk) return;
      const int64_t head = index % call.heads;
      const OsaTask task{&call, piece.sequence, head, workspace};
      // Chunks of one sequence and head lie side by side.
      char* partials = memory + static_cast<size_t>(piece.slot * call.heads + head * piece.chunks) * partial;
      work(task, reinterpret_cast<float*>(partials), piece, static_cast<size_t>(index - piece.chunk * call.heads));
    });
  };
  bool fine = true;
  if (call.center)
    fine &= step(true, [&](const OsaTask& task, float* partials, const Piece&, size_t) {
      kernel.mean(&task, partials);
    });
  fine = fine && step(false, [&](const OsaTask& task, float* partials, const Piece& piece, size_t) {
    kernel.reduce(&task, partials, piece.chunk);
  });
  fine = fine && step(true, [&](const OsaTask& task, float* partials, const Piece& piece, size_t first) {
    open[first] = static_cast<char>(kernel.finish(&task, partials, piece.chunks));
  });
  fine = fine && step(false, [&](const OsaTask& task, float* partials, const Piece& piece, size_t first) {
    if (open[first]) kernel.apply(&task, partials, piece.chunk);
  });
  if (partial_sums.size() > KEPT_PARTIAL_SUMS) partial_sums.release();
  return fine;
}

void complete_whole(const OsaBackend& kernel, const OsaTask& task) {
  float share[OSA_POOLED];
  const int64_t count = task.sequence->count;
  if (task.call->completion->pool) kernel.pool_values(&task, 0, count, share);
  kernel.complete(&task, share, 1, 0, count);
}

// The same of long sequences: the shares of all chunks, then every chunk.
bool complete_pieces(const OsaCall& call, const OsaBackend& kernel, const std::vector<Piece>& pieces,
                     int64_t slots) {
  const size_t numbers = static_cast<size_t>(slots * call.heads) * OSA_POOLED;
  float* const shares = static_cast<float*>(partial_sums.at_least(numbers * sizeof(float)));
  if (!shares) return false;
  const auto step = [&](const auto& work) {
    return for_each(call, static_cast<int64_t>(pieces.size()) * call.heads, 1, 1, [&](int64_t index, void*) {
      const Piece& piece = pieces[static_cast<size_t>(index / call.heads)];
      const int64_t head = index % call.heads, from = piece.chunk * OSA_CHUNK;
      const OsaTask task{&call, piece.sequence, head, nullptr};
      // Chunks of one sequence and head lie side by side.
      work(task, piece, shares + (piece.slot * call.heads + head * piece.chunks) * OSA_POOLED, from,
           std::min<int64_t>(from + OSA_CHUNK, piece.sequence->count));
    });
  };
  bool fine = true;
  if (call.completion->pool)
    fine = step([&](const OsaTask& task, const Piece& piece, float* own, int64_t from, int64_t to) {
      kernel.pool_values(&task, from, to, own + piece.chunk * OSA_POOLED);
    });
  return fine && step([&](const OsaTask& task, const Piece& piece, float* own, int64_t from, int64_t to) {
    kernel.complete(&task, own, piece.chunks, from, to);
  });
}

}  // namespace
}  // namespace osa
#endif
