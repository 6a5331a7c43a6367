// A device on the host, for tests where there is no GPU: every thread of a block is a fiber that runs to the next
// barrier, so that arithmetic, indices and the order of threads are those of the device. A block whose threads do not
// meet at the same barriers ends the process; results that depend on the order of threads show by running it backwards.
#ifndef OSA_EMULATED_DEVICE_H
#define OSA_EMULATED_DEVICE_H

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <vector>

#define OSA_DEVICE inline
#define OSA_KERNEL static
#define OSA_SHARED alignas(128) static
#define OSA_SYNC emulated::wait()

namespace emulated {

constexpr size_t STACK = 64 << 10;

struct Fiber {
  ucontext_t context;
  jmp_buf place;
  std::unique_ptr<char[]> stack{new char[STACK]};
  bool begun = false, done = false;
};

struct Device {
  std::vector<Fiber> fibers = std::vector<Fiber>(LOGICAL_THREADS);
  std::function<void()> work;
  jmp_buf scheduler;
  int current = 0, block = 0;
  bool backwards = false;
};
inline Device& device() {
  static Device one;
  return one;
}

inline void wait() {
  Device& own = device();
  if (!_setjmp(own.fibers[size_t(own.current)].place)) _longjmp(own.scheduler, 1);
}

inline void enter() {
  Device& own = device();
  own.work();
  own.fibers[size_t(own.current)].done = true;
  _longjmp(own.scheduler, 1);
}

inline void resume(Fiber& fiber) {
  if (_setjmp(device().scheduler)) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
  setcontext(&fiber.context);
}

inline void run_block() {
  Device& own = device();
  for (Fiber& fiber : own.fibers) fiber.begun = fiber.done = false;
  for (int left = LOGICAL_THREADS; left;) {
    int finished = 0;
    for (int i = 0; i < LOGICAL_THREADS; ++i) {
      own.current = own.backwards ? LOGICAL_THREADS - 1 - i : i;
      resume(own.fibers[size_t(own.current)]);
      finished += own.fibers[size_t(own.current)].done;
    }
    if (finished && finished != LOGICAL_THREADS) {
      std::fprintf(stderr, "emulated device: %d threads left while others wait at a barrier\n", finished);
      std::abort();
    }
    left = LOGICAL_THREADS - finished;
  }
}

}  // namespace emulated

constexpr int THREADS = LOGICAL_THREADS;
inline int thread() { return emulated::device().current; }
inline int block() { return emulated::device().block; }

// The bits of the device's half precision types.
struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };

inline float widen(float value) { return value; }
inline float widen(__nv_bfloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}
inline float widen(__half value) {
  const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  float size = std::ldexp(float(fraction + (exponent ? 1024 : 0)), (exponent ? exponent : 1) - 25);
  if (exponent == 31) size = fraction ? NAN : INFINITY;
  return value.bits >> 15 ? -size : size;
}
inline void narrow(float* target, float value) { *target = value; }
inline void narrow(__nv_bfloat16* target, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  target->bits = value != value ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void narrow(__half* target, float value) {
  const float size = std::fabs(value);
  int bits = 0x7e00;
  if (size >= 65520.0f) {
    bits = 0x7c00;
  } else if (size == size) {
    const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
    bits = int(std::nearbyint(std::ldexp(size, 10 - exponent))) + (exponent + 14) * 1024;
  }
  target->bits = uint16_t(bits | (std::signbit(value) ? 0x8000 : 0));
}

// Tensor cores: what 32 threads do together, the first of them does here.
template <class In>
constexpr bool TENSOR_CORES = true;
template <>
inline constexpr bool TENSOR_CORES<float> = false;

struct EmulatedTile { float at[16][16]; };
template <class In>
struct LeftTile : EmulatedTile {};
template <class In>
struct RightTile : EmulatedTile {};
struct SumTile : EmulatedTile {};

inline bool leads() { return thread() % 32 == 0; }
inline void clear(SumTile& tile) { std::memset(tile.at, 0, sizeof(tile.at)); }
template <class Tile, class In>
void read(Tile& tile, const In* from, int row) {
  if (!leads()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) tile.at[i][j] = widen(from[i * row + j]);
}
template <class In>
void multiply_tiles(SumTile& sum, const LeftTile<In>& left, const RightTile<In>& right) {
  if (!leads()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j)
      for (int p = 0; p < 16; ++p) sum.at[i][j] += left.at[i][p] * right.at[p][j];
}
inline void write(const SumTile& tile, float* to, int row) {
  if (!leads()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) to[i * row + j] = tile.at[i][j];
}

template <class Kernel, class... Arguments>
const char* launch(Kernel kernel, int64_t blocks, void*, const Arguments&... arguments) {
  emulated::Device& own = emulated::device();
  own.work = [&] { kernel(arguments...); };
  for (int64_t i = 0; i < blocks; ++i) own.block = static_cast<int>(i), emulated::run_block();
  return nullptr;
}

// Memory of one call, in the order of its stream.
class Scratch {
 public:
  explicit Scratch(void*) {}
  ~Scratch() { std::free(memory_); }
  const char* take(size_t bytes) {
    memory_ = std::malloc(bytes);
    if (memory_) std::memset(memory_, 0xff, bytes);  // what is read before it is written is no number
    return memory_ ? nullptr : "out of memory";
  }
  char* data() const { return static_cast<char*>(memory_); }
  const char* fill(void* target, const void* source, size_t bytes) {
    std::memcpy(target, source, bytes);
    return nullptr;
  }

 private:
  void* memory_ = nullptr;
};

extern "C" void osa_emulate_backwards(int backwards) { emulated::device().backwards = backwards; }

#endif
