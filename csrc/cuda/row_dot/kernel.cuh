// SPDX-License-Identifier: BSD-3-Clause
// delta = rowsum(dout * out) - dlse. Sixteen lanes share a row, eight numbers each.
#pragma once

#include <ptx/math.h>
#include <ptx/memory.h>
#include <ptx/shuffle.h>

#include "semantics/problem.h"

namespace longattn::cuda {

inline constexpr int kLanesOfRowDot = 16;
inline constexpr int kRowDotThreads = 128;
inline constexpr int kRowsOfRowDot = kRowDotThreads / kLanesOfRowDot;

// Eight numbers, 16 bytes of 16-bit elements or 32 of floats.
template <class Stored>
LONGATTN_DEVICE void load_eight(float (&values)[8], const Stored* source) {
  const uint4 bits = ptx::load_global_16(source);
  const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = ptx::unpack<Stored>(pairs[i]);
    values[2 * i] = pair.x;
    values[2 * i + 1] = pair.y;
  }
}

template <>
LONGATTN_DEVICE void load_eight<float>(float (&values)[8], const float* source) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    const float2 pair = ptx::load_global_float2(source + i);
    values[i] = pair.x;
    values[i + 1] = pair.y;
  }
}

template <class Element, class OutElement>
__global__ void __launch_bounds__(kRowDotThreads)
    row_dot_kernel(const __grid_constant__ RowDotProblem problem) {
  const int lane = threadIdx.x % kLanesOfRowDot;
  const int64_t index =
      static_cast<int64_t>(blockIdx.x) * kRowsOfRowDot + threadIdx.x / kLanesOfRowDot;
  const int64_t row = index % problem.q_len;
  const auto head = static_cast<int32_t>(index / problem.q_len % problem.q_heads);
  const int64_t batch = index / problem.q_len / problem.q_heads;
  const bool exists = batch < problem.batch;
  float sum = 0.0f;
  if (exists && lane * 8 < problem.value_dim) {
    float dout[8], out[8];
    load_eight(dout, row_pointer<Element>(problem.dout, batch, row, head) + lane * 8);
    load_eight(out, row_pointer<OutElement>(problem.out, batch, row, head) + lane * 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += dout[i] * out[i];
  }
#pragma unroll
  for (int distance = kLanesOfRowDot / 2; distance > 0; distance /= 2) {
    sum += ptx::shuffle_xor(sum, distance);
  }
  if (!exists || lane != 0) return;
  float dlse = 0.0f;
  if (problem.dlse.data != nullptr) {
    dlse = ptx::load_global_float(row_pointer<float>(problem.dlse, batch, row, head));
  }
  ptx::store_global_float(row_pointer<float>(problem.delta, batch, row, head), sum - dlse);
}

}  // namespace longattn::cuda
