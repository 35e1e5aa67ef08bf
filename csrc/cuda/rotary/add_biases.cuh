// SPDX-License-Identifier: BSD-3-Clause
// Adds up the partial sums of the gradients of biases, in a fixed order.
#pragma once

#include <ptx/barrier.h>
#include <ptx/memory.h>

#include "cuda/rotary/parameters.h"

namespace longattn::cuda {

inline constexpr int kBiasColumns = 32;
inline constexpr int kBiasParts = 8;  // threads of a column, each with every eighth partial sum
inline constexpr int kAddBiasesThreads = kBiasColumns * kBiasParts;

struct AddBiasesShared {
  float sums[kBiasParts][kBiasColumns];
};

__global__ void __launch_bounds__(kAddBiasesThreads)
    add_biases_kernel(const __grid_constant__ RotaryParameters parameters) {
  const RotaryProblem& problem = parameters.problem;
  const int64_t columns = int64_t{total_heads(problem)} * problem.head_dim;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kBiasColumns;
  const int32_t part = static_cast<int32_t>(threadIdx.x) / kBiasColumns;
  const int64_t column = int64_t{blockIdx.x} * kBiasColumns + lane;
  const int64_t of_queries = int64_t{problem.queries.heads} * problem.head_dim;
  void* const target =
      column < of_queries ? problem.queries.bias_gradient : problem.keys.bias_gradient;
  const bool works = column < columns && target != nullptr;
  const int64_t count = int64_t{parameters.geometry.slices} * parameters.geometry.row_lanes;
  const float* partial = static_cast<const float*>(problem.workspace) + column;
  float sum = 0.0f;
  if (works) {
#pragma unroll 8
    for (int64_t i = part; i < count; i += kBiasParts) sum += partial[i * columns];
  }
  const uint32_t shared = ptx::shared_address(&ptx::shared_memory<AddBiasesShared>());
  const auto place = [&](int32_t of_part) {
    return shared + static_cast<uint32_t>((of_part * kBiasColumns + lane) * 4);
  };
  ptx::store_shared_float(place(part), sum);
  ptx::synchronize_block();  // the sums of all parts are there
  if (!works || part != 0) return;
  for (int32_t other = 1; other < kBiasParts; ++other) sum += ptx::load_shared_float(place(other));
  static_cast<float*>(target)[column < of_queries ? column : column - of_queries] = sum;
}

}  // namespace longattn::cuda
