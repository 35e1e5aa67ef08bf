// SPDX-License-Identifier: BSD-3-Clause
// AVX-512 with AMX: the tile unit for bfloat16. Other types use avx512.
#pragma once

#include "cpu/matmul/amx_tile_unit.h"
#include "cpu/matmul/tile_matmul.h"
#include "cpu/operands/paired.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = void;
  using Float64 = void;
  using BFloat16 = Paired<TileMatmul<AmxTileUnit>>;
  using Float16 = void;
};

}  // namespace longattn::inline LONGATTN_ISA
