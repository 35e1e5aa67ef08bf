// SPDX-License-Identifier: BSD-3-Clause
// Which GPUs a list of compiled architectures runs on, by the compatibility rules of CUDA:
// https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities
#pragma once

#include <string_view>

namespace longattn::cuda {

// One entry of the list, in CMake's spelling: "80-real", "90a-real", "80-virtual", "80" (both).
inline bool architecture_covers(std::string_view entry, int major, int minor) {
  int number = 0;
  while (!entry.empty() && entry.front() >= '0' && entry.front() <= '9') {
    number = 10 * number + (entry.front() - '0');
    entry.remove_prefix(1);
  }
  const int wanted = 10 * major + minor;
  const bool same_major = number / 10 == major;
  if (entry.starts_with('a')) return number == wanted;                // this GPU and no other
  if (entry.starts_with('f')) return same_major && number <= wanted;  // this family
  if (entry == "-real") return same_major && number <= wanted;        // machine code
  return number <= wanted;                                            // PTX
}

// The list is separated by commas.
inline bool architectures_cover(std::string_view list, int major, int minor) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (architecture_covers(list.substr(0, comma), major, minor)) return true;
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return false;
}

}  // namespace longattn::cuda
