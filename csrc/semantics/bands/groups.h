// SPDX-License-Identifier: BSD-3-Clause
// Sees the key rows of its own group; boundaries at shift + t * size (LongLoRA, block-local).
#pragma once

#include "semantics/bands/bounds.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_group(KeyBounds& keys, int64_t diagonal, int32_t size,
                                          int32_t shift) {
  const int64_t group_begin = shift + floor_divide(diagonal - shift, size) * size;
  keys.begin = larger(keys.begin, group_begin);
  keys.end = smaller(keys.end, group_begin + size);
}

}  // namespace longattn::inline LONGATTN_ISA
