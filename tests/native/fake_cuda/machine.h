// SPDX-License-Identifier: BSD-3-Clause
// A machine of two GPUs with one thread: which contexts exist, which are current. By the rules of
// https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__CTX.html and
// https://docs.nvidia.com/cuda/cuda-runtime-api/driver-vs-runtime-api.html
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <map>
#include <string>
#include <vector>

struct Context {
  int users = 0;  // 0: it does not exist
};

struct Machine {
  Context contexts[2];
  std::vector<CUcontext> stack;  // the last one is current; null: none is
  int chosen = 0;                // by cudaSetDevice, for where no context is current
  int created = 0;
  std::string failing;  // the function of the driver that fails
};

inline Machine machine;

inline int device_of(CUcontext context) { return static_cast<int>(context - machine.contexts); }

inline CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal > 1) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

inline CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  if (machine.failing == "cuDevicePrimaryCtxRetain") return CUDA_ERROR_OUT_OF_MEMORY;
  *context = &machine.contexts[device];
  machine.created += (*context)->users++ == 0;
  return CUDA_SUCCESS;
}

inline CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  --machine.contexts[device].users;
  return CUDA_SUCCESS;
}

inline CUresult cuCtxPushCurrent(CUcontext context) {
  if (machine.failing == "cuCtxPushCurrent") return CUDA_ERROR_OUT_OF_MEMORY;
  machine.stack.push_back(context);
  return CUDA_SUCCESS;
}

inline CUresult cuCtxPopCurrent(CUcontext* context) {
  *context = machine.stack.back();
  machine.stack.pop_back();
  return CUDA_SUCCESS;
}

inline cudaError_t cudaGetDevice(int* device) {
  const bool none = machine.stack.empty() || machine.stack.back() == nullptr;
  *device = none ? machine.chosen : device_of(machine.stack.back());
  return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }

inline cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                                    unsigned long long,
                                                    cudaDriverEntryPointQueryResult* status) {
  const std::map<std::string, void*> functions = {
      {"cuDeviceGet", reinterpret_cast<void*>(&cuDeviceGet)},
      {"cuDevicePrimaryCtxRetain", reinterpret_cast<void*>(&cuDevicePrimaryCtxRetain)},
      {"cuDevicePrimaryCtxRelease", reinterpret_cast<void*>(&cuDevicePrimaryCtxRelease)},
      {"cuCtxPushCurrent", reinterpret_cast<void*>(&cuCtxPushCurrent)},
      {"cuCtxPopCurrent", reinterpret_cast<void*>(&cuCtxPopCurrent)},
  };
  const auto found = functions.find(symbol);
  *function = found == functions.end() ? nullptr : found->second;
  *status = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
