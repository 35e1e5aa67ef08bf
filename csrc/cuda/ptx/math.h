// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic that has an instruction of its own.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

// 2^-inf is 0; subnormal numbers are taken for 0 and become 0.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#floating-point-instructions-ex2
LONGATTN_DEVICE float exp2_approximate(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// The logarithm of 0, and of subnormal numbers, is -inf.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#floating-point-instructions-lg2
LONGATTN_DEVICE float log2_approximate(float value) {
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// The reciprocal of inf is 0.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#floating-point-instructions-rcp
LONGATTN_DEVICE float reciprocal_approximate(float value) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

// A rounding modifier keeps the product from being contracted with an addition.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#floating-point-instructions-mul
LONGATTN_DEVICE float multiply(float a, float b) {
  float result;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// Two floats rounded to nearest even; `low` in the low half.
template <HalfPrecision Element>
LONGATTN_DEVICE uint32_t pack(float low, float high);

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvt
template <>
LONGATTN_DEVICE uint32_t pack<__nv_bfloat16>(float low, float high) {
  uint32_t result;  // the instruction's first source becomes the high half
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvt
template <>
LONGATTN_DEVICE uint32_t pack<__half>(float low, float high) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// The inverse of pack, exact.
template <HalfPrecision Element>
LONGATTN_DEVICE float2 unpack(uint32_t pair);

// A bfloat16 is the upper half of a float: no conversion is needed.
template <>
LONGATTN_DEVICE float2 unpack<__nv_bfloat16>(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvt
template <>
LONGATTN_DEVICE float2 unpack<__half>(uint32_t pair) {
  float2 result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result.x) : "h"(static_cast<uint16_t>(pair)));
  asm("cvt.f32.f16 %0, %1;" : "=f"(result.y) : "h"(static_cast<uint16_t>(pair >> 16)));
  return result;
}

}  // namespace longattn::ptx
