// SPDX-License-Identifier: BSD-3-Clause
#include "cuda/host/device_query.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda/host/architectures.h"
#include "cuda/host/versions.h"

namespace longattn::cuda {
namespace {

std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

// CUDA reports a missing driver as one that is too old.
std::string why_no_count(cudaError_t error, const DeviceQuery& query) {
  if (query.driver_version == 0) {
    return std::string("no NVIDIA driver was found (") + cudaGetErrorName(error) + ")";
  }
  if (error == cudaErrorInsufficientDriver) {
    return why_driver_is_refused(query.driver_version, query.runtime_version);
  }
  if (error == cudaErrorNoDevice) {
    return "the NVIDIA driver shows no GPU (" + error_text(error) +
           "); see nvidia-smi and the variable CUDA_VISIBLE_DEVICES";
  }
  return "cudaGetDeviceCount failed (" + error_text(error) + ")";
}

Device query_device(int index) {
  Device device;
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) {
    device.reason = "cudaGetDeviceProperties failed (" + error_text(error) + ")";
    return device;
  }
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  device.shared_memory_per_block_bytes =
      static_cast<std::int64_t>(properties.sharedMemPerBlockOptin);
  if (!architectures_cover(compiled_architectures(), device.major, device.minor)) {
    device.reason = "its compute capability is " + std::to_string(device.major) + "." +
                    std::to_string(device.minor) + " and this build holds code for " +
                    compiled_architectures() + " (LONGATTN_CUDA_ARCHITECTURES)";
  }
  return device;
}

}  // namespace

DeviceQuery query_devices() {
  DeviceQuery query;
  cudaDriverGetVersion(&query.driver_version);
  cudaRuntimeGetVersion(&query.runtime_version);
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    query.reason = why_no_count(error, query);
    cudaGetLastError();  // handled here; the next launch check must not find it
    return query;
  }
  for (int index = 0; index < count; ++index) query.devices.push_back(query_device(index));
  const bool usable = std::any_of(query.devices.begin(), query.devices.end(),
                                  [](const Device& device) { return device.reason.empty(); });
  query.reason = why_driver_is_too_old(query.driver_version);
  if (query.reason.empty() && !usable) {
    query.reason = count == 0 ? "the NVIDIA driver shows no GPU"
                              : query.devices[0].name + ": " + query.devices[0].reason;
  }
  return query;
}

const char* compiled_architectures() { return LONGATTN_CUDA_ARCHITECTURES; }

}  // namespace longattn::cuda
