// SPDX-License-Identifier: BSD-3-Clause
// As avx512_amx, with the tile unit modelled in software: for tests. Other types use avx512.
#pragma once

#include "cpu/matmul/model_tile_unit.h"
#include "cpu/matmul/tile_matmul.h"
#include "cpu/operands/paired.h"

namespace longattn::inline LONGATTN_ISA {

struct Isa {
  using Float32 = void;
  using Float64 = void;
  using BFloat16 = Paired<TileMatmul<ModelTileUnit>>;
  using Float16 = void;
};

}  // namespace longattn::inline LONGATTN_ISA
