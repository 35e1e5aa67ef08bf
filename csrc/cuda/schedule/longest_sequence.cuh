// SPDX-License-Identifier: BSD-3-Clause
// The longest of packed sequences, which the host does not know: a kernel finds it for those behind
// it, whose blocks would otherwise look at sequences of a length that nobody has.
#pragma once

#include <ptx/barrier.h>
#include <ptx/shuffle.h>

#include "cuda/schedule/diagonal.h"
#include "semantics/sequence.h"

namespace longattn::cuda {

struct LongestSequence {
  int32_t q_len;
  int32_t k_len;  // maybe of another sequence
};

// Whether a pair of such a sequence can lie on the diagonal.
LONGATTN_HOST_DEVICE bool crosses(const LongestSequence& longest, int64_t diagonal, int32_t tile) {
  const Numbers distances = distances_on(diagonal, tile);
  return distances.end > 1 - int64_t{longest.q_len} && distances.begin < longest.k_len;
}

inline constexpr int kLongestSequenceThreads = 1024;

struct LongestSequenceShared {
  LongestSequence of_warps[kLongestSequenceThreads / 32];
};

LONGATTN_DEVICE LongestSequence longer(const LongestSequence& a, const LongestSequence& b) {
  return {static_cast<int32_t>(larger(a.q_len, b.q_len)),
          static_cast<int32_t>(larger(a.k_len, b.k_len))};
}

// One block.
static __global__ void __launch_bounds__(kLongestSequenceThreads)
    longest_sequence_kernel(const __grid_constant__ SequenceLayout layout,
                            LongestSequence* longest) {
  auto& shared = ptx::shared_memory<LongestSequenceShared>();
  LongestSequence found{0, 0};
  for (int64_t s = threadIdx.x; s < layout.batch; s += kLongestSequenceThreads) {
    const Sequence sequence = packed_sequence(layout, s);
    found = longer(found, {sequence.q_len, sequence.k_len});
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    found = longer(found, {ptx::shuffle_xor(found.q_len, distance),
                           ptx::shuffle_xor(found.k_len, distance)});
  }
  if (threadIdx.x % 32 == 0) shared.of_warps[threadIdx.x / 32] = found;
  ptx::synchronize_block();  // every warp has its longest
  if (threadIdx.x != 0) return;
  for (const LongestSequence& of_warp : shared.of_warps) found = longer(found, of_warp);
  *longest = found;
}

}  // namespace longattn::cuda
