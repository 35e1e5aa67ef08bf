// SPDX-License-Identifier: BSD-3-Clause
// Sixteen floats in AVX-512 with AVX512_BF16: rounding to bfloat16 is one instruction for two
// vectors. It takes numbers below 2^-126 for 0, which the other lanes keep.
#pragma once

#include "cpu/simd/avx512.h"

namespace longattn::inline LONGATTN_ISA {

struct Avx512Bf16Lanes : Avx512Lanes {
  using Avx512Lanes::store_two;
  using Avx512Lanes::stream_two;

  static void store_two(BFloat16* data, Vector first, Vector second) {
    _mm512_storeu_si512(data, rounded(first, second));
  }
  static void stream_two(BFloat16* data, Vector first, Vector second) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(data), rounded(first, second));
  }

 private:
  static __m512i rounded(Vector first, Vector second) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  }
};

}  // namespace longattn::inline LONGATTN_ISA
