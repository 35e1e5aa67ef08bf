// SPDX-License-Identifier: BSD-3-Clause
// Loads and stores whose width and memory are fixed; addresses are multiples of the width.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
LONGATTN_DEVICE uint4 load_global_16(const void* global) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(__cvta_generic_to_global(global))
               : "memory");
  return value;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_global_16(void* global, uint4 value) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(global)),
               "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
LONGATTN_DEVICE float load_global_float(const float* global) {
  float value;
  asm volatile("ld.global.f32 %0, [%1];"
               : "=f"(value)
               : "l"(__cvta_generic_to_global(global))
               : "memory");
  return value;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
LONGATTN_DEVICE float2 load_global_float2(const float* global) {
  float2 value;
  asm volatile("ld.global.v2.f32 {%0, %1}, [%2];"
               : "=f"(value.x), "=f"(value.y)
               : "l"(__cvta_generic_to_global(global))
               : "memory");
  return value;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_global_4(void* global, uint32_t value) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(global)), "r"(value)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_global_float(float* global, float value) {
  asm volatile("st.global.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(global)), "f"(value)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_global_float2(float* global, float2 value) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(global)),
               "f"(value.x), "f"(value.y)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_shared_4(uint32_t smem, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(smem), "r"(value) : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
LONGATTN_DEVICE uint4 load_shared_16(uint32_t smem) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(smem)
               : "memory");
  return value;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_shared_16(uint32_t smem, uint4 value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(smem), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-ld
LONGATTN_DEVICE float load_shared_float(uint32_t smem) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(smem) : "memory");
  return value;
}

// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-st
LONGATTN_DEVICE void store_shared_float(uint32_t smem, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(smem), "f"(value) : "memory");
}

}  // namespace longattn::ptx
