// SPDX-License-Identifier: BSD-3-Clause
// Sees key rows [diagonal - left, diagonal + right]; a negative bound is unbounded.
#pragma once

#include "semantics/bands/bounds.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_diagonal(KeyBounds& keys, int64_t diagonal, int32_t left,
                                             int32_t right) {
  if (left >= 0) keys.begin = larger(keys.begin, diagonal - left);
  if (right >= 0) keys.end = smaller(keys.end, diagonal + right + 1);
}

}  // namespace longattn::inline LONGATTN_ISA
