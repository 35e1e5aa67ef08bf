// SPDX-License-Identifier: BSD-3-Clause
// The part of the CUDA headers that kernels use: vector types, 16-bit elements, built-in
// variables, and qualifiers that vanish. No toolkit is needed to run the emulator.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/simd/elements.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct alignas(8) float2 {
  float x, y;
};

inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline float2 make_float2(float x, float y) { return {x, y}; }

// Two bytes with the conversions of cuda_bf16.h and cuda_fp16.h; NaN becomes 0x7fff as there.
struct __nv_bfloat16 {
  uint16_t bits;

  __nv_bfloat16() = default;

  __nv_bfloat16(float value) {
    longattn::BFloat16 rounded;
    longattn::narrow(value, rounded);
    bits = value == value ? rounded.bits : 0x7fff;
  }

  operator float() const { return longattn::widen(longattn::BFloat16{bits}); }
};

struct __half {
  uint16_t bits;

  __half() = default;

  __half(float value) {
    longattn::Float16 rounded;
    longattn::narrow(value, rounded);
    bits = value == value ? rounded.bits : 0x7fff;
  }

  operator float() const { return longattn::widen(longattn::Float16{bits}); }
};

// Written by the scheduler whenever another thread goes on.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
