// SPDX-License-Identifier: BSD-3-Clause
// One number for each distance; distances beyond the table take its nearest entry.
#pragma once

#include "semantics/integers.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE int64_t table_index(int64_t distance, int64_t size, int64_t origin,
                                         bool symmetric) {
  const int64_t reach = symmetric ? larger(distance, -distance) : distance;
  return clamp(reach + origin, 0, size - 1);
}

}  // namespace longattn::inline LONGATTN_ISA
