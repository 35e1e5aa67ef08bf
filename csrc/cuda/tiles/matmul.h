// SPDX-License-Identifier: BSD-3-Clause
// Warp products on mma.m16n8k16 with operands in swizzled shared tiles or in registers.
#pragma once

#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/mma.h>

#include "cuda/tiles/register_tile.h"
#include "cuda/tiles/shared_tile.h"

namespace longattn::cuda {

// sum[16][columns] += A[16][dim] B[columns][dim]^T: both operands are tiles of rows.
template <class Element, class LeftTile, class RightTile, int kColumns>
LONGATTN_DEVICE void multiply_by_rows(RegisterTile<kColumns>& sum, const LeftTile& left,
                                      int left_row, const RightTile& right, int lane) {
  static_assert(kColumns == RightTile::kRows && LeftTile::kDim == RightTile::kDim);
  const uint32_t left_first = left.address(left_row + lane % 16, lane / 16);
  const uint32_t right_first = right.address(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int step = 0; step < LeftTile::kDim / 16; ++step) {
    uint32_t a[4];
    ptx::ldmatrix_x4(a, left.address_from(left_first, 0, step));
#pragma unroll
    for (int column = 0; column < kColumns; column += 16) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, right.address_from(right_first, column, step));
      ptx::mma_m16n8k16<Element>(sum.values[column / 8], a, b[0], b[1]);
      ptx::mma_m16n8k16<Element>(sum.values[column / 8 + 1], a, b[2], b[3]);
    }
  }
}

// A's fragment from sums: accumulators of 16 columns are, rounded, an operand of 16 numbers.
template <class Element, int kColumns>
LONGATTN_DEVICE void left_from_sums(uint32_t (&a)[4], const RegisterTile<kColumns>& sums,
                                    int step) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float(&block)[4] = sums.values[2 * step + i / 2];
    a[i] = ptx::pack<Element>(block[i % 2 * 2], block[i % 2 * 2 + 1]);
  }
}

// sum[16][dim] += W[16][rows] B[rows][dim]: W in registers, B a tile of rows.
template <class Element, class RightTile, int kInner, int kColumns>
LONGATTN_DEVICE void multiply_by_columns(RegisterTile<kColumns>& sum,
                                         const RegisterTile<kInner>& weights,
                                         const RightTile& right, int lane) {
  static_assert(kInner == RightTile::kRows && kColumns == RightTile::kDim);
  const uint32_t right_first = right.address(lane % 16, lane / 16);
#pragma unroll
  for (int step = 0; step < kInner / 16; ++step) {
    uint32_t a[4];
    left_from_sums<Element>(a, weights, step);
#pragma unroll
    for (int column = 0; column < kColumns; column += 16) {
      uint32_t b[4];
      ptx::ldmatrix_x4_trans(b, right.address_from(right_first, step * 16, column / 16));
      ptx::mma_m16n8k16<Element>(sum.values[column / 8], a, b[0], b[1]);
      ptx::mma_m16n8k16<Element>(sum.values[column / 8 + 1], a, b[2], b[3]);
    }
  }
}

}  // namespace longattn::cuda
