// SPDX-License-Identifier: BSD-3-Clause
// AVX2, FMA and F16C.
#pragma once

#include "cpu/operands/widened.h"
#include "cpu/simd/avx2.h"
#include "cpu/simd/portable.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = Widened<Avx2Lanes, float>;
  using Float64 = Widened<PortableLanes<double, 4>, double>;
  using BFloat16 = Widened<Avx2Lanes, longattn::BFloat16>;
  using Float16 = Widened<Avx2Lanes, longattn::Float16>;
};

}  // namespace longattn::inline LONGATTN_ISA
