// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace longattn::cuda {

inline unsigned checked_grid(int64_t blocks) {
  if (blocks > std::numeric_limits<int32_t>::max()) {
    throw std::invalid_argument("this problem needs " + std::to_string(blocks) +
                                " thread blocks, more than a CUDA grid can have (2147483647)");
  }
  return static_cast<unsigned>(blocks);
}

}  // namespace longattn::cuda
