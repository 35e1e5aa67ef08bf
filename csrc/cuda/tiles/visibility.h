// SPDX-License-Identifier: BSD-3-Clause
// Whether a row sees a key, without branches: each of the two ranges costs one unsigned comparison.
#pragma once

#include <ptx/device.h>

#include "semantics/band.h"

namespace longattn::cuda {

LONGATTN_DEVICE bool lies_in(int32_t key, int32_t begin, int32_t end) {
  return static_cast<uint32_t>(key - begin) < static_cast<uint32_t>(end - begin);
}

LONGATTN_DEVICE bool is_visible(const RowBounds& row, int32_t key) {
  return lies_in(key, row.begin, row.end) | lies_in(key, row.floor, row.sink_end);
}

}  // namespace longattn::cuda
