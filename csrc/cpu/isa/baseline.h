// SPDX-License-Identifier: BSD-3-Clause
// Every processor: whatever vectors the compiler's default target has.
#pragma once

#include "cpu/operands/widened.h"
#include "cpu/simd/portable.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = Widened<PortableLanes<float, 4>, float>;
  using Float64 = Widened<PortableLanes<double, 2>, double>;
  using BFloat16 = Widened<PortableLanes<float, 4>, longattn::BFloat16>;
  using Float16 = Widened<PortableLanes<float, 4>, longattn::Float16>;
};

}  // namespace longattn::inline LONGATTN_ISA
