// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/host/device_guard.h"

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace longattn::cuda {

namespace {

void check(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(call) + " failed: " + cudaGetErrorString(error));
}

}  // namespace

DeviceGuard::DeviceGuard(int device) {
  check("cudaGetDevice", cudaGetDevice(&previous_));
  if (previous_ == device) return;
  check("cudaSetDevice", cudaSetDevice(device));
  changed_ = true;
}

DeviceGuard::~DeviceGuard() {
  if (changed_) cudaSetDevice(previous_);
}

}  // namespace longattn::cuda
