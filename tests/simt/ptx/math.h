// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/math.h: correctly rounded where the device approximates.
#pragma once

#include <ptx/device.h>

#include <bit>
#include <cmath>
#include <limits>

namespace longattn::ptx {

// The .ftz of the instructions: subnormal numbers count as 0.
LONGATTN_DEVICE float flush_to_zero(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.0f, value) : value;
}

LONGATTN_DEVICE float exp2_approximate(float value) {
  return flush_to_zero(std::exp2(flush_to_zero(value)));
}

LONGATTN_DEVICE float log2_approximate(float value) { return std::log2(flush_to_zero(value)); }

LONGATTN_DEVICE float reciprocal_approximate(float value) {
  return flush_to_zero(1.0f / flush_to_zero(value));
}

// A multiply-add of its own, which no compiler contracts with another addition.
LONGATTN_DEVICE float multiply(float a, float b) { return std::fma(a, b, -0.0f); }

template <HalfPrecision Element>
LONGATTN_DEVICE uint32_t pack(float low, float high) {
  return static_cast<uint32_t>(Element(low).bits) | static_cast<uint32_t>(Element(high).bits) << 16;
}

template <HalfPrecision Element>
LONGATTN_DEVICE float2 unpack(uint32_t pair) {
  const Element low = std::bit_cast<Element>(static_cast<uint16_t>(pair));
  const Element high = std::bit_cast<Element>(static_cast<uint16_t>(pair >> 16));
  return make_float2(low, high);
}

}  // namespace longattn::ptx
