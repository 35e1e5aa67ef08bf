// SPDX-License-Identifier: BSD-3-Clause
// AVX-512 F, BW, VL and DQ.
#pragma once

#include "cpu/operands/widened.h"
#include "cpu/simd/avx512.h"
#include "cpu/simd/portable.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = Widened<Avx512Lanes, float>;
  using Float64 = Widened<PortableLanes<double, 8>, double>;
  using BFloat16 = Widened<Avx512Lanes, longattn::BFloat16>;
  using Float16 = Widened<Avx512Lanes, longattn::Float16>;
};

}  // namespace longattn::inline LONGATTN_ISA
