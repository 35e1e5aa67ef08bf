// SPDX-License-Identifier: BSD-3-Clause
// The warp's matrix multiplication: sum [16, 8] += a [16, 16] b [16, 8], float32 sums.
// With row = lane / 4 and pair = 2 (lane % 4), a lane holds
//   sum: (row, pair) (row, pair + 1) (row + 8, pair) (row + 8, pair + 1)
//   a:   two neighbours each from (row, pair) (row + 8, pair) (row, pair + 8) (row + 8, pair + 8)
//   b:   two neighbours each down column `row` from (pair, row) (pair + 8, row)
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

template <HalfPrecision Element>
LONGATTN_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                  uint32_t b1);

// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions-mma
template <>
LONGATTN_DEVICE void mma_m16n8k16<__nv_bfloat16>(float (&sum)[4], const uint32_t (&a)[4],
                                                 uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#warp-level-matrix-instructions-mma
template <>
LONGATTN_DEVICE void mma_m16n8k16<__half>(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                                          uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace longattn::ptx
