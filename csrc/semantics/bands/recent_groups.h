// SPDX-License-Identifier: BSD-3-Clause
// Sees the key rows of its own group and of the `back` groups before it (xPos's blockwise causal
// attention with back = 1). Numbers as in groups.h.
#pragma once

#include "semantics/bands/groups.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_recent_groups(KeyBounds& keys, int64_t diagonal, int32_t size,
                                                  int32_t place) {
  const Group group = group_of(diagonal, size, place);
  keys.begin = larger(keys.begin, group.begin);
  keys.end = smaller(keys.end, group.own_begin + size);
}

}  // namespace longattn::inline LONGATTN_ISA
