// SPDX-License-Identifier: BSD-3-Clause
// Takes a half of a register tile (one row a lane) to a row of floats in global memory, 8-aligned,
// as wide as `width`: even, and 0 where the row does not exist.
#pragma once

#include <ptx/memory.h>

#include "cuda/tiles/register_tile.h"

namespace longattn::cuda {

LONGATTN_DEVICE int column_of_lane(int lane, int block) {
  return block * kBlockColumns + lane % 4 * 2;
}

template <int kColumns>
LONGATTN_DEVICE void store_half(float* row, int width, const RegisterTile<kColumns>& tile,
                                int half, float factor, int lane) {
#pragma unroll
  for (int block = 0; block < tile.kBlocks; ++block) {
    const int column = column_of_lane(lane, block);
    if (column >= width) continue;
    const float(&values)[4] = tile.values[block];
    ptx::store_global_float2(
        row + column, make_float2(factor * values[2 * half], factor * values[2 * half + 1]));
  }
}

// row = old_factor * row + factor * half. A row of factor 0 is not read: it may hold anything.
template <int kColumns>
LONGATTN_DEVICE void merge_half(float* row, int width, const RegisterTile<kColumns>& tile,
                                int half, float old_factor, float factor, int lane) {
  float2 old[tile.kBlocks];  // all are read first, so that they are waited for together
#pragma unroll
  for (int block = 0; block < tile.kBlocks; ++block) {
    const int column = column_of_lane(lane, block);
    old[block] = make_float2(0.0f, 0.0f);
    if (column < width && old_factor != 0.0f) old[block] = ptx::load_global_float2(row + column);
  }
#pragma unroll
  for (int block = 0; block < tile.kBlocks; ++block) {
    const int column = column_of_lane(lane, block);
    if (column >= width) continue;
    const float(&values)[4] = tile.values[block];
    ptx::store_global_float2(
        row + column, make_float2(old_factor * old[block].x + factor * values[2 * half],
                                  old_factor * old[block].y + factor * values[2 * half + 1]));
  }
}

// row += factor * half
template <int kColumns>
LONGATTN_DEVICE void add_half(float* row, int width, const RegisterTile<kColumns>& tile, int half,
                              float factor, int lane) {
  merge_half(row, width, tile, half, 1.0f, factor, lane);
}

}  // namespace longattn::cuda
