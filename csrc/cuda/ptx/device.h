// SPDX-License-Identifier: BSD-3-Clause
// The ground that kernels stand on: qualifiers, element types, shared memory. Kernels include
// <ptx/...> with angle brackets, so that the include root decides whether they get these headers
// or the ones of the emulator (tests/simt/ptx), which have the same names and signatures.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <concepts>
#include <cstdint>

#define LONGATTN_DEVICE __device__ __forceinline__

namespace longattn::ptx {

// What the tensor cores multiply.
template <class Element>
concept HalfPrecision = std::same_as<Element, __nv_bfloat16> || std::same_as<Element, __half>;

// The 32-bit address that the instructions for shared memory take.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cvta
LONGATTN_DEVICE uint32_t shared_address(const void* smem) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(smem));
}

// The block's dynamic shared memory; `sizeof(Plan)` bytes of it are launched.
template <class Plan>
LONGATTN_DEVICE Plan& shared_memory() {
  static_assert(alignof(Plan) <= 1024, "dynamic shared memory is aligned to 1024 bytes");
  extern __shared__ __align__(1024) unsigned char longattn_shared_memory[];
  return *reinterpret_cast<Plan*>(longattn_shared_memory);
}

}  // namespace longattn::ptx
