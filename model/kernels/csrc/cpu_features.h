// What this processor, and its operating system, let us run.
#ifndef OSA_CPU_FEATURES_H
#define OSA_CPU_FEATURES_H

#if defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace osa {

struct CpuFeatures {
  bool dot = false, bf16 = false;  // products of 8-bit integers, and of bfloat16 too

  CpuFeatures() {
#if defined(__linux__)
    dot = getauxval(AT_HWCAP) & (1ul << 20);            // HWCAP_ASIMDDP
    bf16 = dot && getauxval(AT_HWCAP2) & (1ul << 14);  // HWCAP2_BF16
#endif
  }
};

}  // namespace osa
#elif defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace osa {

struct CpuFeatures {
  bool avx2 = false, avx2_vnni = false, avx512 = false, avx512_vnni = false, avx512_bf16 = false, amx = false;

  CpuFeatures() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return;
    const bool fma = c & bit_FMA;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    const bool ymm = (low & 0x6) == 0x6, zmm = (low & 0xe6) == 0xe6;
    avx2 = ymm && fma && (b & (1u << 5));
    const unsigned foundation = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F DQ BW VL
    avx512 = avx2 && zmm && (b & foundation) == foundation;
    avx512_vnni = avx512 && (c & (1u << 11));
    const unsigned tiles = (1u << 22) | (1u << 24) | (1u << 25);  // AMX-BF16, AMX-TILE, AMX-INT8
    const bool may_tile = (d & tiles) == tiles && (low & 0x60000) == 0x60000;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return;
    avx2_vnni = avx2 && (a & (1u << 4));
    avx512_bf16 = avx512_vnni && (a & (1u << 5));
    amx = avx512_bf16 && may_tile && may_use_tiles();
  }

 private:
  // Linux gives the tile registers to a process that asks for them.
  static bool may_use_tiles() {
#if defined(__linux__)
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
  }
};

}  // namespace osa
#endif
#endif
