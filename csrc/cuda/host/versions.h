// SPDX-License-Identifier: BSD-3-Clause
// Which drivers run this build. Versions are CUDA's own integers: 1000 * major + 10 * minor.
#pragma once

#include <string>

namespace longattn::cuda {

// Kernels take more than 4 KiB of parameters, which toolkits and drivers permit since 12.1 (R530):
// https://developer.nvidia.com/blog/cuda-12-1-supports-large-kernel-parameters/
// cmake/cuda.cmake asks the same of the toolkit. Within CUDA 12 an older driver would say yes to
// everything else, and fail at the first launch.
inline constexpr int kOldestVersion = 12010;

inline std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Empty if the driver is new enough for the kernels.
inline std::string why_driver_is_too_old(int driver) {
  if (driver >= kOldestVersion) return "";
  return "the NVIDIA driver runs CUDA up to " + version_text(driver) +
         ", longattn's kernels need " + version_text(kOldestVersion) +
         ": update the driver to R530 or newer";
}

// Where CUDA's runtime, of the toolkit that this build is made with, refuses the driver itself.
inline std::string why_driver_is_refused(int driver, int runtime) {
  return "the NVIDIA driver runs CUDA up to " + version_text(driver) + ", this build needs " +
         version_text(runtime) + ": update the driver or build with an older CUDA toolkit (" +
         version_text(kOldestVersion) + " at least)";
}

}  // namespace longattn::cuda
