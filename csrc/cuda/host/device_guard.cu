// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/host/device_guard.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace longattn::cuda {

namespace {

[[noreturn]] void fail(const std::string& call, const std::string& error) {
  throw std::runtime_error(call + " failed: " + error + ".");
}

void check(const char* call, CUresult error) {
  if (error != CUDA_SUCCESS) fail(call, "CUresult " + std::to_string(static_cast<int>(error)));
}

// Functions of the driver, which is not linked: a build runs where there is none.
template <class Function>
void look_up(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const unsigned kVersion = 12010;  // the oldest that is supported
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &status);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &status);
#endif
  if (error != cudaSuccess || found == nullptr) {
    fail(std::string("looking for ") + name + " in the NVIDIA driver", cudaGetErrorString(error));
  }
  function = reinterpret_cast<Function>(found);
}

struct Driver {
  Driver() {
    look_up("cuDeviceGet", device_get);
    look_up("cuDevicePrimaryCtxRetain", retain);
    look_up("cuDevicePrimaryCtxRelease", release);
    look_up("cuCtxPushCurrent", push);
    look_up("cuCtxPopCurrent", pop);
  }

  decltype(&cuDeviceGet) device_get;
  decltype(&cuDevicePrimaryCtxRetain) retain;
  decltype(&cuDevicePrimaryCtxRelease) release;
  decltype(&cuCtxPushCurrent) push;
  decltype(&cuCtxPopCurrent) pop;
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

}  // namespace

DeviceGuard::DeviceGuard(int device) {
  int current = 0;
  const cudaError_t error = cudaGetDevice(&current);
  if (error != cudaSuccess) fail("cudaGetDevice", cudaGetErrorString(error));
  if (current == device) return;
  CUdevice handle;
  check("cuDeviceGet", driver().device_get(&handle, device));
  CUcontext context;
  check("cuDevicePrimaryCtxRetain", driver().retain(&context, handle));
  const CUresult pushed = driver().push(context);
  if (pushed != CUDA_SUCCESS) driver().release(handle);
  check("cuCtxPushCurrent", pushed);
  pushed_ = handle;
}

DeviceGuard::~DeviceGuard() {
  if (pushed_ < 0) return;
  CUcontext context;
  driver().pop(&context);
  driver().release(pushed_);  // not the last to hold it: memory of the call lies there
}

}  // namespace longattn::cuda
