// SPDX-License-Identifier: BSD-3-Clause
// Tile sizes of the backward kernels. Tuning: results do not depend on them beyond rounding.
#pragma once

namespace longattn::cuda {

struct BackwardConfig {
  int head_dim;  // of the tiles: all rows are padded with zeros up to it
  int query_tile;
  int key_tile;
  int warps;       // each owns 16 rows of the tile whose gradient is summed up
  int min_blocks;  // of a multiprocessor; caps registers

  constexpr int threads() const { return warps * 32; }
};

// Every configuration fits the 99 KiB of sm_86, sm_89 and sm_120.
inline constexpr BackwardConfig kQueryGradientConfigs[] = {
    {.head_dim = 64, .query_tile = 64, .key_tile = 64, .warps = 4, .min_blocks = 3},
    {.head_dim = 128, .query_tile = 64, .key_tile = 64, .warps = 4, .min_blocks = 2},
};

// dk and dv of 128 dims take half of the registers: fewer queries at a time leave room for them.
inline constexpr BackwardConfig kKeyGradientConfigs[] = {
    {.head_dim = 64, .query_tile = 64, .key_tile = 64, .warps = 4, .min_blocks = 2},
    {.head_dim = 128, .query_tile = 32, .key_tile = 64, .warps = 4, .min_blocks = 2},
};

inline constexpr BackwardConfig kBiasGradientConfigs[] = {
    {.head_dim = 64, .query_tile = 64, .key_tile = 64, .warps = 4, .min_blocks = 2},
    {.head_dim = 128, .query_tile = 64, .key_tile = 64, .warps = 4, .min_blocks = 2},
};

}  // namespace longattn::cuda
