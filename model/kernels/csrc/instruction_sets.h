// The instruction sets that are built and run here, and which are in use.
#ifndef OSA_INSTRUCTION_SETS_H
#define OSA_INSTRUCTION_SETS_H

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "backend.h"
#include "cpu_features.h"

extern const OsaBackend osa_backend_baseline, osa_backend_avx2, osa_backend_avx512, osa_backend_avx512_bf16,
    osa_backend_amx;
extern const OsaProducts osa_products_baseline, osa_products_avx2, osa_products_avx2_vnni, osa_products_avx512,
    osa_products_avx512_vnni, osa_products_avx512_bf16, osa_products_amx, osa_products_baseline_dot,
    osa_products_baseline_bf16;

// Without products they are compiled for nothing.
#if defined(OSA_ATTENTION_ALONE)
#define OSA_PRODUCTS(name) nullptr
#else
#define OSA_PRODUCTS(name) &osa_products_##name
#endif

namespace osa {
namespace {

template <class Kernels>
using Found = std::vector<const Kernels*>;

// What is built and runs here, best first. The attention has fewer variants than products.
struct Sets {
  Found<OsaBackend> backends;
  Found<OsaProducts> products;

  Sets() {
#if defined(__x86_64__) || defined(__aarch64__)
    const CpuFeatures cpu;
    (void)cpu;
#if defined(OSA_HAVE_baseline_bf16)
    add(cpu.bf16, OSA_PRODUCTS(baseline_bf16));
#endif
#if defined(OSA_HAVE_baseline_dot)
    add(cpu.dot, OSA_PRODUCTS(baseline_dot));
#endif
#if defined(OSA_HAVE_amx)
    add(cpu.amx, OSA_PRODUCTS(amx), &osa_backend_amx);
#endif
#if defined(OSA_HAVE_avx512_bf16)
    add(cpu.avx512_bf16, OSA_PRODUCTS(avx512_bf16), &osa_backend_avx512_bf16);
#endif
#if defined(OSA_HAVE_avx512_vnni)
    add(cpu.avx512_vnni, OSA_PRODUCTS(avx512_vnni));
#endif
#if defined(OSA_HAVE_avx512)
    add(cpu.avx512, OSA_PRODUCTS(avx512), &osa_backend_avx512);
#endif
#if defined(OSA_HAVE_avx2_vnni)
    add(cpu.avx2_vnni, OSA_PRODUCTS(avx2_vnni));
#endif
#if defined(OSA_HAVE_avx2)
    add(cpu.avx2, OSA_PRODUCTS(avx2), &osa_backend_avx2);
#endif
#endif
    add(true, OSA_PRODUCTS(baseline), &osa_backend_baseline);
  }

 private:
  void add(bool runs, const OsaProducts* product, const OsaBackend* backend = nullptr) {
    if (!runs) return;
    if (product) products.push_back(product);
    if (backend) backends.push_back(backend);
  }
};

const Sets& sets() {
  static const Sets found;
  return found;
}

std::atomic<const OsaBackend*> chosen{nullptr};
std::atomic<const OsaProducts*> chosen_products{nullptr};

const OsaBackend& backend() {
  const OsaBackend* current = chosen.load(std::memory_order_relaxed);
  return current ? *current : *sets().backends.front();
}

const OsaProducts& products() {
  const OsaProducts* current = chosen_products.load(std::memory_order_relaxed);
  return current ? *current : *sets().products.front();
}

template <class Kernels>
std::string names_of(const Found<Kernels>& found) {
  std::string joined;
  for (const Kernels* kernels : found) joined += (joined.empty() ? "" : " ") + std::string(kernels->name);
  return joined;
}

template <class Kernels>
int choose(const Found<Kernels>& found, const char* name, std::atomic<const Kernels*>& into) {
  for (const Kernels* kernels : found)
    if (!std::strcmp(kernels->name, name)) {
      into = kernels;
      return 1;
    }
  return 0;
}

}  // namespace
}  // namespace osa
#endif
