// SPDX-License-Identifier: BSD-3-Clause
// What CUDA finds on this machine. Plain C++: sources that include it need no CUDA header.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longattn::cuda {

struct Device {
  std::string name;
  int major = 0;  // compute capability major.minor
  int minor = 0;
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t shared_memory_per_block_bytes = 0;  // the most that a kernel may opt in to
  std::string reason;                              // why it cannot be used; empty: it can
};

struct DeviceQuery {
  int driver_version = 0;  // 1000 * major + 10 * minor of the newest CUDA it runs; 0: no driver
  int runtime_version = 0;
  std::vector<Device> devices;
  std::string reason;  // why no device can be used; empty: one can
};

// Never throws and creates no context; it does start the driver, after which a forked child
// cannot use CUDA any more. So it runs when asked for and never on import.
DeviceQuery query_devices();

// What the kernels are compiled for, such as "80-real,90a-real,80-virtual".
const char* compiled_architectures();

}  // namespace longattn::cuda
