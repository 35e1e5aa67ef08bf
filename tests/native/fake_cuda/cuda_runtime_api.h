// SPDX-License-Identifier: BSD-3-Clause
// As much of the runtime's interface as device_guard.cu uses; machine.h plays the runtime.
#pragma once

#define CUDART_VERSION 13000

enum cudaError_t { cudaSuccess = 0, cudaErrorUnknown = 999 };
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
inline constexpr unsigned long long cudaEnableDefault = 0;

cudaError_t cudaGetDevice(int* device);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* status);
