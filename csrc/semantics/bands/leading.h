// SPDX-License-Identifier: BSD-3-Clause
// Sees the first `length` key rows and none beyond (sinks that have a partial of their own).
#pragma once

#include "semantics/bands/bounds.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_leading(KeyBounds& keys, int32_t length) {
  keys.end = smaller(keys.end, length);
}

}  // namespace longattn::inline LONGATTN_ISA
