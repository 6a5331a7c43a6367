// Threads of the host, and memory that they keep.
#ifndef OSA_THREADS_H
#define OSA_THREADS_H

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "osa_attention.h"

namespace osa {
namespace {

// Memory of one thread that stays from call to call, so that its pages are touched once.
class Kept {
 public:
  void* at_least(size_t bytes) {
    if (size_ < bytes) {
      release();
      bytes = (bytes + 4095) / 4096 * 4096;
      memory_.reset(std::aligned_alloc(4096, bytes));
      size_ = memory_ ? bytes : 0;
    }
    return memory_.get();
  }
  void release() {
    memory_.reset();
    size_ = 0;
  }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

thread_local Kept workspace;     // of the kernel
thread_local Kept partial_sums;  // of long sequences, of the calling thread
constexpr size_t KEPT_PARTIAL_SUMS = size_t(64) << 20;

// Runs work(index) for index 0 ... count - 1 on the caller's threads (`threads`, `parallel`), in grains. False: no memory.
template <class Call, class Work>
bool for_each(const Call& call, int64_t count, int64_t grain, size_t bytes, const Work& work) {
  struct Shared {
    const Work& work;
    int64_t count, grain;
    size_t bytes;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};

    static void run(void* data) {
      Shared& shared = *static_cast<Shared*>(data);
      void* memory = workspace.at_least(shared.bytes);
      if (!memory) {
        shared.failed = true;
        return;
      }
      for (;;) {
        const int64_t from = shared.next.fetch_add(shared.grain);
        if (from >= shared.count) return;
        const int64_t to = std::min(from + shared.grain, shared.count);
        for (int64_t index = from; index < to; ++index) shared.work(index, memory);
      }
    }
  } shared{work, count, grain, bytes};
  const int64_t grains = (count + grain - 1) / grain;
  const unsigned threads = static_cast<unsigned>(std::min<int64_t>(call.threads, grains));
  if (threads <= 1) {
    Shared::run(&shared);
  } else if (call.parallel) {
    call.parallel(Shared::run, &shared, threads, 0);
  } else {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(Shared::run, &shared);
    Shared::run(&shared);
    for (std::thread& other : others) other.join();
  }
  return !shared.failed;
}

}  // namespace
}  // namespace osa
#endif
