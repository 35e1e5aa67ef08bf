// SPDX-License-Identifier: BSD-3-Clause
// The only place that launches kernels: `<<<` is not C++, so that the emulator brings its own.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace longattn::cuda {

inline void check_launch(const char* name, const char* step, cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // thrown from here; the next check must not find it again
  throw std::runtime_error("the CUDA kernel " + std::string(name) + " was not launched: " + step +
                           " failed with " + cudaGetErrorName(error) + " (" +
                           cudaGetErrorString(error) + ").");
}

// Starts `grid` blocks of `threads` threads with `shared_bytes` of dynamic shared memory each on
// a cudaStream_t. Kernels take their parameters by value.
template <class Kernel, class... Arguments>
void launch(const char* name, Kernel* kernel, unsigned grid, unsigned threads, size_t shared_bytes,
            void* stream, const Arguments&... arguments) {
  constexpr size_t kGrantedToEveryKernel = 48 * 1024;
  if (shared_bytes > kGrantedToEveryKernel) {
    check_launch(name, "cudaFuncSetAttribute",
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared_bytes)));
  }
  kernel<<<grid, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  check_launch(name, "the launch", cudaGetLastError());
}

}  // namespace longattn::cuda
