// SPDX-License-Identifier: BSD-3-Clause
// A warp's tile of sums in registers, 16 rows by kColumns, in mma.m16n8k16's accumulator layout:
// a lane holds rows lane / 4 and lane / 4 + 8, in each block of 8 columns two neighbouring ones.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-fragment-mma-16816-float
#pragma once

#include <ptx/device.h>

namespace longattn::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kWarpRows = 16;
inline constexpr int kBlockColumns = 8;
inline constexpr int kRowsOfLane = 2;

template <int kTileColumns>
struct RegisterTile {
  static constexpr int kColumns = kTileColumns;
  static constexpr int kBlocks = kColumns / kBlockColumns;

  float values[kBlocks][4];  // [block][row half * 2 + column]

  LONGATTN_DEVICE void clear() {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) values[block][i] = 0.0f;
    }
  }

  // Visits every value of this lane: visit(value, half, column), row = lane / 4 + 8 * half.
  template <class Visit>
  LONGATTN_DEVICE void for_each(int lane, Visit visit) {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        visit(values[block][i], i / 2, block * kBlockColumns + lane % 4 * 2 + i % 2);
      }
    }
  }
};

LONGATTN_DEVICE int row_of_lane(int lane, int half) { return lane / 4 + 8 * half; }

}  // namespace longattn::cuda
