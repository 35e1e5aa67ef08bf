// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/shuffle.h.
#pragma once

#include <ptx/device.h>

#include <bit>

#include "machine/warp.h"

namespace longattn::ptx {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

LONGATTN_DEVICE float shuffle_xor(float value, int lane_mask,
                                  simt::Where where = simt::Where::current()) {
  return std::bit_cast<float>(simt::shuffle_xor(std::bit_cast<uint32_t>(value), lane_mask, where));
}

LONGATTN_DEVICE int32_t shuffle_xor(int32_t value, int lane_mask,
                                    simt::Where where = simt::Where::current()) {
  return static_cast<int32_t>(simt::shuffle_xor(static_cast<uint32_t>(value), lane_mask, where));
}

LONGATTN_DEVICE uint32_t shuffle_xor(uint32_t value, int lane_mask,
                                     simt::Where where = simt::Where::current()) {
  return simt::shuffle_xor(value, lane_mask, where);
}

}  // namespace longattn::ptx
