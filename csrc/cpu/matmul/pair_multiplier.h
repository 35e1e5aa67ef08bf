// SPDX-License-Identifier: BSD-3-Clause
// Multiplier for pairs of bfloat16 (AVX512_BF16): a unit is two numbers that are summed over.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "cpu/simd/avx512.h"

namespace longattn::inline LONGATTN_ISA {

struct PairMultiplier {
  using Lanes = Avx512Lanes;
  using Unit = uint32_t;
  using Vector = __m512;
  using Operand = __m512bh;

  static Operand load(const Unit* data) {
    return reinterpret_cast<Operand>(_mm512_loadu_si512(data));
  }
  static Operand spread(const char* data) {
    int unit;
    std::memcpy(&unit, data, sizeof(unit));
    return reinterpret_cast<Operand>(_mm512_set1_epi32(unit));
  }
  static Vector multiply_add(Operand a, Operand b, Vector sum) {
    return _mm512_dpbf16_ps(sum, a, b);
  }
};

}  // namespace longattn::inline LONGATTN_ISA
