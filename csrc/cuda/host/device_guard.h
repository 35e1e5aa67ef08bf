// SPDX-License-Identifier: BSD-3-Clause
// Makes a device current for a call and restores the one before.
#pragma once

namespace longattn::cuda {

class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace longattn::cuda
