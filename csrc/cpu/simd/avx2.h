// SPDX-License-Identifier: BSD-3-Clause
// Eight floats in AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include "cpu/simd/elements.h"
#include "cpu/simd/exp2.h"

namespace longattn::inline LONGATTN_ISA {

struct Avx2Lanes {
  using Scalar = float;
  using Vector = __m256;
  static constexpr int kWidth = 8;
  static constexpr int kBlockRows = 6;     // 12 sums, 2 operands and 1 spread scalar
  static constexpr int kBlockVectors = 2;  // of 16 registers

  static Vector broadcast(float value) { return _mm256_set1_ps(value); }
  static Vector zero() { return _mm256_setzero_ps(); }

  static Vector load(const float* data) { return _mm256_loadu_ps(data); }
  static Vector load(const BFloat16* data) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Vector load(const Float16* data) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data)));
  }
  static void store(float* data, Vector value) { _mm256_storeu_ps(data, value); }
  static void store(BFloat16* data, Vector value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(data), _mm256_castsi256_si128(packed));
  }
  static void store(Float16* data, Vector value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(data),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  // Two vectors side by side.
  template <class Element>
  static void store_two(Element* data, Vector first, Vector second) {
    store(data, first);
    store(data + kWidth, second);
  }
  static constexpr bool kStreams = false;
  template <class Element>
  static Vector load_first(const Element* data, int count) {
    alignas(32) float lanes[kWidth] = {};
    for (int i = 0; i < count; ++i) lanes[i] = widen(data[i]);
    return load(lanes);
  }
  template <class Element>
  static void store_first(Element* data, Vector value, int count) {
    alignas(32) float lanes[kWidth];
    store(lanes, value);
    for (int i = 0; i < count; ++i) narrow(lanes[i], data[i]);
  }

  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector divide(Vector a, Vector b) { return _mm256_div_ps(a, b); }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector maximum(Vector a, Vector b) { return _mm256_max_ps(a, b); }

  static Vector swap_neighbours(Vector value) { return _mm256_permute_ps(value, 0xb1); }

  static void transpose(Vector (&rows)[kWidth]) {
    Vector pairs[kWidth], quads[kWidth];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
      pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      quads[4 * i] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0x44);
      quads[4 * i + 1] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0xee);
      quads[4 * i + 2] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0x44);
      quads[4 * i + 3] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0xee);
    }
    // quads[4 i + c] holds columns c and c + 4 of rows 4 i .. 4 i + 3.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      rows[c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20);
      rows[4 + c] = _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31);
    }
  }

  static Vector select_in_range(Vector value, Vector key, Vector begin, Vector end,
                                Vector otherwise) {
    const Vector inside = _mm256_and_ps(_mm256_cmp_ps(begin, key, _CMP_LE_OQ),
                                        _mm256_cmp_ps(key, end, _CMP_LT_OQ));
    return _mm256_blendv_ps(otherwise, value, inside);
  }

  static Vector exp2(Vector x) {
    const Vector smallest = broadcast(kExp2Smallest);
    // NaN must stay NaN: both operations return their second operand when one is unordered.
    const Vector clamped = _mm256_max_ps(smallest, x);
    const Vector whole = _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector fraction = subtract(clamped, whole);
    Vector power = broadcast(kExp2Coefficients[5]);
    for (int i = 4; i >= 0; --i) {
      power = multiply_add(power, fraction, broadcast(kExp2Coefficients[i]));
    }
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    const Vector result =
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, smallest, _CMP_LT_OQ), result);
  }

  static float sum(Vector value) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
  }
};

}  // namespace longattn::inline LONGATTN_ISA
