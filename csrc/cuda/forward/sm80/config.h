// SPDX-License-Identifier: BSD-3-Clause
// Tile sizes of the forward kernel. Tuning: results do not depend on them beyond rounding.
#pragma once

namespace longattn::cuda {

struct ForwardConfig {
  int head_dim;    // of the tiles: q, k and v are padded with zeros up to it
  int query_tile;  // 16 rows a warp
  int key_tile;
  int min_blocks;  // of a multiprocessor; caps registers

  constexpr int warps() const { return query_tile / 16; }
  constexpr int threads() const { return warps() * 32; }
};

// Every configuration needs less than 99 KiB, the limit of sm_86, sm_89 and sm_120.
inline constexpr ForwardConfig kForwardConfigs[] = {
    {.head_dim = 64, .query_tile = 128, .key_tile = 64, .min_blocks = 2},
    {.head_dim = 128, .query_tile = 128, .key_tile = 64, .min_blocks = 1},
};

}  // namespace longattn::cuda
