// SPDX-License-Identifier: BSD-3-Clause
// Four 8x8 matrices of 16-bit elements from shared memory into a warp's registers. Lanes 8i..8i+7
// give the addresses of the rows (16 aligned bytes each) of matrix i, which lands in r[i]: lane l
// receives row l / 4, columns 2 (l % 4) and the next; transposed: row and column exchanged.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions-ldmatrix
LONGATTN_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t smem) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions-ldmatrix
LONGATTN_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t smem) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem)
               : "memory");
}

}  // namespace longattn::ptx
