// Formats of products: what is read of rows and of packed weights, and how it is multiplied.
//
// 32 bits of a packed weight hold WORD inputs of one output, and are used up in STEPS. Where the
// instruction set lacks a format's product it is computed on floats that hold the same values.
#ifndef OSA_FORMATS_H
#define OSA_FORMATS_H

#include "elementary.h"
#include "line.h"
#include "osa_transform.h"

namespace {

constexpr int64_t GROUP = OSA_GROUP;  // inputs with one scale, and inner features that are made at once

OSA_INLINE int32_t word_at(const void* from) {
  int32_t word;
  __builtin_memcpy(&word, from, sizeof(word));
  return word;
}

struct Float32 {
  typedef float Element, State, Sum;  // of rows that a product reads, of states, of its result
  static constexpr int64_t WORD = 1;
  static constexpr int STEPS = 1;
  static constexpr bool SCALED = false;

  static OSA_INLINE Vector<float> right(const char* words, int) {
    return load(reinterpret_cast<const float*>(words));
  }
  static OSA_INLINE Vector<float> left(const float* word, int) { return splat(*word); }
  static OSA_INLINE void add(Vector<float>& sums, Vector<float> left, Vector<float> right) { sums += left * right; }
  static OSA_INLINE Vector<float> activate_gelu(Vector<float> x) { return exact_gelu(x); }
  static OSA_INLINE void put(const Line& line, float* to) { write_line(to, line); }
};

struct Bfloat16 {
  typedef bfloat16 State;
  typedef float Sum;
  static constexpr int64_t WORD = 2;
  static constexpr bool SCALED = false;
  static OSA_INLINE Vector<float> activate_gelu(Vector<float> x) { return gelu(x); }
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  typedef bfloat16 Element;
  static constexpr int STEPS = 1;

  static OSA_INLINE Vector<float> right(const char* words, int) {
    return load(reinterpret_cast<const float*>(words));
  }
  static OSA_INLINE Vector<float> left(const bfloat16* word, int) {
    return from_bits(Bits{} + static_cast<uint32_t>(word_at(word)));
  }
  static OSA_INLINE void add(Vector<float>& sums, Vector<float> left, Vector<float> right) {
#if defined(__AVX512BF16__)
    const __m512 result = _mm512_dpbf16_ps(as<__m512>(sums), as<__m512bh>(left),
                                           as<__m512bh>(right));
#else
    const float32x4_t result = vbfdotq_f32(as<float32x4_t>(sums), as<bfloat16x8_t>(left), as<bfloat16x8_t>(right));
#endif
    sums = as<Vector<float>>(result);
  }
  static OSA_INLINE void put(const Line& line, bfloat16* to) { write_line(to, line); }
#else
  typedef float Element;
  static constexpr int STEPS = 2;

  static OSA_INLINE Vector<float> right(const char* words, int step) {
    const Bits both = bits_of(load(reinterpret_cast<const float*>(words)));
    return from_bits(step ? both & 0xffff0000u : both << 16);
  }
  static OSA_INLINE Vector<float> left(const float* word, int step) { return splat(word[step]); }
  static OSA_INLINE void add(Vector<float>& sums, Vector<float> left, Vector<float> right) { sums += left * right; }
  static OSA_INLINE void put(const Line& line, float* to) {
    write_line(to, changed(line, [](Vector<float> x) { return from_bits(round_to_bfloat16(x) & 0xffff0000u); }));
  }
#endif
};

struct Int8 {
  typedef bfloat16 State;
  static constexpr int64_t WORD = 4;
  static constexpr bool SCALED = true;
  static OSA_INLINE Vector<float> activate_gelu(Vector<float> x) { return gelu(x); }

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
  typedef uint8_t Element;  // 128 more than the number
  typedef int32_t Sum;
  static constexpr int STEPS = 1;
  static constexpr int32_t OFFSET = 128;

  static OSA_INLINE Vector<int32_t> right(const char* words, int) {
    return load(reinterpret_cast<const int32_t*>(words));
  }
  static OSA_INLINE Vector<int32_t> left(const uint8_t* word, int) { return splat(word_at(word)); }
  static OSA_INLINE void add(Vector<int32_t>& sums, Vector<int32_t> left, Vector<int32_t> right) {
    // not the intrinsic: gcc 12 copies registers around it, which halves the speed
#if defined(__AVX512VNNI__)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(left), "v"(right));
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(left), "x"(right));
#endif
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  typedef int8_t Element;
  typedef int32_t Sum;
  static constexpr int STEPS = 1;
  static constexpr int32_t OFFSET = 0;

  static OSA_INLINE Vector<int32_t> right(const char* words, int) {
    return load(reinterpret_cast<const int32_t*>(words));
  }
  static OSA_INLINE Vector<int32_t> left(const int8_t* word, int) { return splat(word_at(word)); }
  static OSA_INLINE void add(Vector<int32_t>& sums, Vector<int32_t> left, Vector<int32_t> right) {
    sums = as<Vector<int32_t>>(vdotq_s32(as<int32x4_t>(sums), as<int8x16_t>(left), as<int8x16_t>(right)));
  }
#elif defined(__SSE2__) && (defined(__AVX512BW__) || !defined(__AVX512F__))
  typedef int16_t Element;  // in the order that `paired` makes
  typedef int32_t Sum;
  static constexpr int STEPS = 2;
  static constexpr int32_t OFFSET = 0;

  // Inputs 0 and 2 of every word, then 1 and 3, as two numbers of 16 bits.
  static OSA_INLINE Vector<int32_t> right(const char* words, int step) {
    const auto all = as<Vector<int16_t>>(load(reinterpret_cast<const int32_t*>(words)));
    return as<Vector<int32_t>>(step ? all >> 8 : (all << 8) >> 8);
  }
  static OSA_INLINE Vector<int32_t> left(const int16_t* word, int step) { return splat(word_at(word + 2 * step)); }
  static OSA_INLINE void add(Vector<int32_t>& sums, Vector<int32_t> left, Vector<int32_t> right) {
#if defined(__AVX512F__)
    sums += as<Vector<int32_t>>(_mm512_madd_epi16(as<__m512i>(left), as<__m512i>(right)));
#elif defined(__AVX2__)
    sums += as<Vector<int32_t>>(_mm256_madd_epi16(as<__m256i>(left), as<__m256i>(right)));
#else
    sums += as<Vector<int32_t>>(_mm_madd_epi16(as<__m128i>(left), as<__m128i>(right)));
#endif
    // nothing, but without it gcc adds both steps first and runs out of registers
#if defined(__AVX512F__)
    __asm__("" : "+v"(sums));
#else
    __asm__("" : "+x"(sums));
#endif
  }
#else
  typedef float Element;  // whole numbers, whose sums over a group are exact
  typedef float Sum;
  static constexpr int STEPS = 4;
  static constexpr int32_t OFFSET = 0;

  static OSA_INLINE Vector<float> right(const char* words, int step) {
    const Vector<int32_t> all = load(reinterpret_cast<const int32_t*>(words));
    return __builtin_convertvector((all << (24 - 8 * step)) >> 24, Vector<float>);
  }
  static OSA_INLINE Vector<float> left(const float* word, int step) { return splat(word[step]); }
  static OSA_INLINE void add(Vector<float>& sums, Vector<float> left, Vector<float> right) { sums += left * right; }
#endif
};

// Lanes by fours as pairs of inputs are multiplied: 0, 2, 1, 3.
template <int... Lanes>
OSA_INLINE Vector<float> paired(Vector<float> whole, LaneList<Lanes...>) {
  return choose_lanes<float, ((Lanes & ~3) | (Lanes & 1) << 1 | (Lanes & 2) >> 1)...>(whole, whole);
}

// A group of numbers as whole ones from -127 to 127; returns their unit. That of numbers which are
// not finite is not finite, and so is every sum over them.
template <class Element, int32_t Offset>
OSA_INLINE void put_whole(const Line& line, Element* to) {
  constexpr int64_t W = Simd<float>::width;
  OSA_UNROLL(8)
  for (int i = 0; i < Line::PARTS; ++i) {
    Vector<float> shifted = line.part[i] + splat(12582912.0f);  // 1.5 * 2^23: sums round to integers
    if constexpr (sizeof(Element) == 2) shifted = paired(shifted, typename CountLanes<W>::List{});
    typedef Element Loose __attribute__((vector_size(W * sizeof(Element)), aligned(sizeof(Element)), may_alias));
    typedef Element Tight __attribute__((vector_size(W * sizeof(Element))));
    if constexpr (sizeof(Element) == 4)
      *reinterpret_cast<Loose*>(to + i * W) = shifted - splat(12582912.0f);
    else
      *reinterpret_cast<Loose*>(to + i * W) =
          __builtin_convertvector(bits_of(shifted) - (0x4b400000u - Offset), Tight);
  }
}

}  // namespace
#endif
