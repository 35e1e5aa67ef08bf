// SPDX-License-Identifier: BSD-3-Clause
// Makes a device current for a call, and leaves the thread as it was.
#pragma once

namespace longattn::cuda {

// Restoring with cudaSetDevice would create a context, some hundred MB, on a device that nobody may
// have used before. So the device's context is pushed and popped, which the runtime follows:
// https://docs.nvidia.com/cuda/cuda-runtime-api/driver-vs-runtime-api.html
class DeviceGuard {
 public:
  // The device must hold memory of this process already: its context exists.
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int pushed_ = -1;  // CUdevice; -1: it was current
};

}  // namespace longattn::cuda
