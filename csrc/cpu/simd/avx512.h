// SPDX-License-Identifier: BSD-3-Clause
// Sixteen floats in AVX-512 (F, BW, VL, DQ).
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "cpu/simd/elements.h"
#include "cpu/simd/exp2.h"
#include "cpu/simd/transpose.h"

namespace longattn::inline LONGATTN_ISA {

struct Avx512Lanes {
  using Scalar = float;
  using Vector = __m512;
  static constexpr int kWidth = 16;
  static constexpr int kBlockRows = 6;     // 24 sums, 4 operands and 1 spread scalar
  static constexpr int kBlockVectors = 4;  // of 32 registers

  static Vector broadcast(float value) { return _mm512_set1_ps(value); }
  static Vector zero() { return _mm512_setzero_ps(); }
  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1); }

  static Vector load(const float* data) { return _mm512_loadu_ps(data); }
  static Vector load(const BFloat16* data) {
    return widen_bits(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
  }
  static Vector load(const Float16* data) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(data)));
  }
  static void store(float* data, Vector value) { _mm512_storeu_ps(data, value); }
  static void store(BFloat16* data, Vector value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(data), narrow_bits(value));
  }
  static void store(Float16* data, Vector value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(data),
                        _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  // Two vectors side by side, in one store of 64 bytes where they fit it.
  static void store_two(float* data, Vector first, Vector second) {
    store(data, first);
    store(data + kWidth, second);
  }
  template <class Element>
  static void store_two(Element* data, Vector first, Vector second) {
    _mm512_storeu_si512(data, narrow_two<Element>(first, second));
  }
  // The same past the caches, to a multiple of 64 bytes; seen by others after end_streams.
  static constexpr bool kStreams = true;
  static void stream_two(float* data, Vector first, Vector second) {
    _mm512_stream_ps(data, first);
    _mm512_stream_ps(data + kWidth, second);
  }
  template <class Element>
  static void stream_two(Element* data, Vector first, Vector second) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(data), narrow_two<Element>(first, second));
  }
  static void end_streams() { _mm_sfence(); }
  static Vector load_first(const float* data, int count) {
    return _mm512_maskz_loadu_ps(first(count), data);
  }
  static Vector load_first(const BFloat16* data, int count) {
    return widen_bits(_mm256_maskz_loadu_epi16(first(count), data));
  }
  static Vector load_first(const Float16* data, int count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), data));
  }
  static void store_first(float* data, Vector value, int count) {
    _mm512_mask_storeu_ps(data, first(count), value);
  }
  static void store_first(BFloat16* data, Vector value, int count) {
    _mm256_mask_storeu_epi16(data, first(count), narrow_bits(value));
  }
  static void store_first(Float16* data, Vector value, int count) {
    _mm256_mask_storeu_epi16(data, first(count),
                             _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }

  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector divide(Vector a, Vector b) { return _mm512_div_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector maximum(Vector a, Vector b) { return _mm512_max_ps(a, b); }

  static Vector swap_neighbours(Vector value) { return _mm512_permute_ps(value, 0xb1); }

  static void transpose(Vector (&rows)[kWidth]) {
    __m512i bits[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) bits[i] = _mm512_castps_si512(rows[i]);
    longattn::transpose(bits);
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = _mm512_castsi512_ps(bits[i]);
  }

  static Vector select_in_range(Vector value, Vector key, Vector begin, Vector end,
                                Vector otherwise) {
    const __mmask16 inside = _mm512_cmp_ps_mask(begin, key, _CMP_LE_OQ) &
                             _mm512_cmp_ps_mask(key, end, _CMP_LT_OQ);
    return _mm512_mask_mov_ps(otherwise, inside, value);
  }

  static Vector exp2(Vector x) {
    // 2^-200 is far below the smallest float: scalef returns 0. NaN stays NaN, being the second
    // operand of max.
    const Vector clamped = _mm512_max_ps(broadcast(-200.0f), x);
    const Vector whole = _mm512_roundscale_ps(clamped, _MM_FROUND_TO_NEAREST_INT);
    const Vector fraction = subtract(clamped, whole);
    Vector power = broadcast(kExp2Coefficients[5]);
#pragma GCC unroll 5
    for (int i = 4; i >= 0; --i) {
      power = multiply_add(power, fraction, broadcast(kExp2Coefficients[i]));
    }
    return _mm512_scalef_ps(power, whole);
  }

  static float sum(Vector value) { return _mm512_reduce_add_ps(value); }

 private:
  static Vector widen_bits(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static __m256i narrow_bits(Vector value) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_bits(value), 16));
  }
  template <class Element>
  static __m512i narrow_two(Vector first, Vector second) {
    if constexpr (std::is_same_v<Element, BFloat16>) {
      alignas(64) static constexpr uint16_t kUpperHalves[32] = {
          1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
          33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
      const __m512i upper_halves = _mm512_load_si512(kUpperHalves);
      return _mm512_permutex2var_epi16(rounded_bits(first), upper_halves, rounded_bits(second));
    } else {
      return _mm512_inserti64x4(
          _mm512_castsi256_si512(_mm512_cvtps_ph(first, _MM_FROUND_TO_NEAREST_INT)),
          _mm512_cvtps_ph(second, _MM_FROUND_TO_NEAREST_INT), 1);
    }
  }
  // The upper halves are the bfloat16.
  static __m512i rounded_bits(Vector value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
  }
};

}  // namespace longattn::inline LONGATTN_ISA
