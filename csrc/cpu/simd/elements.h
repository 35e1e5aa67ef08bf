// SPDX-License-Identifier: BSD-3-Clause
// 16-bit element types and their exact conversions, one number at a time.
#pragma once

#include <bit>
#include <cstdint>

#include "semantics/portable.h"

namespace longattn {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

inline namespace LONGATTN_ISA {

inline float widen(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

inline float widen(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // Shifted into a float's exponent the number is 2^112 too small, subnormals included.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

inline float widen(float value) { return value; }

inline double widen(double value) { return value; }

inline void narrow(float value, BFloat16& result) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  result.bits = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded >> 16);
}

inline void narrow(float value, Float16& result) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x47800000u) {  // at least 2^16: infinity, or NaN
    result.bits = static_cast<uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u));
  } else if (magnitude < 0x38800000u) {  // below 2^-14: the addition rounds to a subnormal
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    result.bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000u));
  } else {
    const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
    result.bits = static_cast<uint16_t>(sign | rounded >> 13);
  }
}

inline void narrow(float value, float& result) { result = value; }

inline void narrow(double value, double& result) { result = value; }

}  // namespace LONGATTN_ISA
}  // namespace longattn
