// Vectors of the instruction set that this file is compiled for, by the compiler's own extension:
// one source for x86-64 and arm64. Everything lies in an unnamed namespace, and nothing of the
// standard library is used, so that code for one instruction set is never linked into another.
#ifndef OSA_SIMD_H
#define OSA_SIMD_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define OSA_VECTOR_BYTES 64
#define OSA_TILE_ROWS 8
#elif defined(__AVX__)
#define OSA_VECTOR_BYTES 32
#define OSA_TILE_ROWS 4
#elif defined(__aarch64__)
#define OSA_VECTOR_BYTES 16
#define OSA_TILE_ROWS 8
#else
#define OSA_VECTOR_BYTES 16
#define OSA_TILE_ROWS 4
#endif

#if defined(__AMX_BF16__) || defined(__AMXBF16__)
#define OSA_TILES 1
#endif

#define OSA_INLINE inline __attribute__((always_inline))
#define OSA_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define OSA_UNROLL(count) OSA_PRAGMA(unroll count)
#else
#define OSA_UNROLL(count) OSA_PRAGMA(GCC unroll count)
#endif

namespace {

template <class T>
struct Simd {
  static constexpr int64_t width = OSA_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(OSA_VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(OSA_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <class T>
using Vector = typename Simd<T>::Vector;

// The same bits as another vector of the same size.
template <class To, class From>
OSA_INLINE To as(From value) {
  static_assert(sizeof(To) == sizeof(From), "vectors of different sizes");
  return (To)value;
}

template <class T>
OSA_INLINE Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
OSA_INLINE void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

// Stores past the caches where the instruction set can; `to` is then aligned to a vector. What is
// stored so is seen by other threads after `finish_stores`.
template <class T>
OSA_INLINE void store_past_caches(T* to, Vector<T> value) {
#if defined(__AVX512F__) && !defined(__clang__)
  if constexpr (sizeof(T) == 4) {
    __builtin_ia32_movntps512(reinterpret_cast<float*>(to), as<Vector<float>>(value));
    return;
  }
#endif
  store(to, value);
}
OSA_INLINE void finish_stores() {
#if defined(__AVX512F__) && !defined(__clang__)
  __builtin_ia32_sfence();
#endif
}

template <class T>
OSA_INLINE Vector<T> splat(T value) {
  return value - Vector<T>{};  // x - 0 is x for every x, -0 too; the compiler makes it a broadcast
}

template <class T>
OSA_INLINE T smaller(T left, T right) { return left < right ? left : right; }
template <class T>
OSA_INLINE T larger(T left, T right) { return left < right ? right : left; }

// Lanes of `left` and `right` taken by number: those of `right` count on from the width.
#if defined(__clang__)
template <class T, int... Lanes>
OSA_INLINE Vector<T> choose_lanes(Vector<T> left, Vector<T> right) {
  return __builtin_shufflevector(left, right, Lanes...);
}
#else
template <int Bytes> struct LaneIndex { typedef int32_t Type; };
template <> struct LaneIndex<8> { typedef int64_t Type; };
template <class T, int... Lanes>
OSA_INLINE Vector<T> choose_lanes(Vector<T> left, Vector<T> right) {
  typedef typename LaneIndex<sizeof(T)>::Type Index;
  typedef Index Indices __attribute__((vector_size(OSA_VECTOR_BYTES)));
  return __builtin_shuffle(left, right, Indices{Lanes...});
}
#endif

// 0, 1, ... Count - 1 as template arguments.
template <int... Lanes> struct LaneList {};
template <int Count, int... Lanes> struct CountLanes : CountLanes<Count - 1, Count - 1, Lanes...> {};
template <int... Lanes> struct CountLanes<0, Lanes...> { typedef LaneList<Lanes...> List; };

OSA_INLINE int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

template <class Left, class Right> struct Same { static constexpr bool value = false; };
template <class T> struct Same<T, T> { static constexpr bool value = true; };

struct bfloat16 {
  uint16_t bits;
};

OSA_INLINE float widen(float value) { return value; }
OSA_INLINE float widen(bfloat16 value) {
  union { uint32_t bits; float number; } both = {static_cast<uint32_t>(value.bits) << 16};
  return both.number;
}

OSA_INLINE void narrow(float value, float* to) { *to = value; }
OSA_INLINE void narrow(float value, bfloat16* to) {  // to nearest, ties to even; NaN stays NaN
  union { float number; uint32_t bits; } both = {value};
  const uint32_t rounded = both.bits + 0x7fffu + ((both.bits >> 16) & 1u);
  const bool nan = (both.bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = static_cast<uint16_t>(nan ? 0x7fc0u : rounded >> 16);
}

// Unsigned numbers of 32 bits, as many as a vector has floats, and as many halves of them.
typedef uint32_t Bits __attribute__((vector_size(OSA_VECTOR_BYTES)));
typedef uint16_t HalfBits __attribute__((vector_size(OSA_VECTOR_BYTES / 2)));
typedef uint16_t LooseHalfBits __attribute__((vector_size(OSA_VECTOR_BYTES / 2), aligned(2), may_alias));

OSA_INLINE Bits bits_of(Vector<float> value) { return as<Bits>(value); }
OSA_INLINE Vector<float> from_bits(Bits bits) { return as<Vector<float>>(bits); }

OSA_INLINE Vector<float> widen_vector(const bfloat16* from) {
  return from_bits(__builtin_convertvector(*reinterpret_cast<const LooseHalfBits*>(from), Bits) << 16);
}

// The high halves are bfloat16, to nearest, ties to even; NaN stays NaN.
OSA_INLINE Bits round_to_bfloat16(Vector<float> value) {
  const Bits bits = bits_of(value), rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (bits & 0x7fffffffu) > 0x7f800000u ? Bits{} + 0x7fc00000u : rounded;
}
OSA_INLINE void narrow_vector(Vector<float> value, bfloat16* to) {
#if defined(__AVX512BF16__)
  const __m256bh narrowed = _mm512_cvtneps_pbh(as<__m512>(value));
  __builtin_memcpy(to, &narrowed, sizeof(narrowed));
#else
  *reinterpret_cast<LooseHalfBits*>(to) = __builtin_convertvector(round_to_bfloat16(value) >> 16, HalfBits);
#endif
}

// Sum of the lanes by halves.
template <int Half, int... Lanes>
OSA_INLINE float sum_lanes(Vector<float> value, LaneList<Lanes...> lanes) {
  if constexpr (Half > 0) {
    value += choose_lanes<float, (Lanes ^ Half)...>(value, value);
    return sum_lanes<Half / 2>(value, lanes);
  }
  return value[0];
}
OSA_INLINE float sum_lanes(Vector<float> value) {
  constexpr int width = Simd<float>::width;
  return sum_lanes<width / 2>(value, typename CountLanes<width>::List{});
}

}  // namespace
#endif
