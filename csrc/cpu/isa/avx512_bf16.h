// SPDX-License-Identifier: BSD-3-Clause
// AVX-512 with BF16: pair products for bfloat16. Other types use avx512.
#pragma once

#include "cpu/matmul/pair_multiplier.h"
#include "cpu/matmul/register_matmul.h"
#include "cpu/operands/paired.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = void;
  using Float64 = void;
  using BFloat16 = Paired<RegisterMatmul<PairMultiplier>>;
  using Float16 = void;
};

}  // namespace longattn::inline LONGATTN_ISA
