// SPDX-License-Identifier: BSD-3-Clause
// The value of the lane whose number is this lane's, exclusive or `lane_mask`. All lanes take part.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-shfl-sync
LONGATTN_DEVICE float shuffle_xor(float value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-shfl-sync
LONGATTN_DEVICE int32_t shuffle_xor(int32_t value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-shfl-sync
LONGATTN_DEVICE uint32_t shuffle_xor(uint32_t value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}

}  // namespace longattn::ptx
