// SPDX-License-Identifier: BSD-3-Clause
// Sees the key rows of one group: its own (LongLoRA, block-local), or the one `back` groups before
// it. Boundaries at shift + t * size; a term holds place = shift + back * size, 0 <= shift < size.
#pragma once

#include "semantics/bands/bounds.h"

namespace longattn::inline LONGATTN_ISA {

struct Group {
  int64_t begin;
  int64_t own_begin;  // of the query's own group
};

LONGATTN_HOST_DEVICE Group group_of(int64_t diagonal, int32_t size, int32_t place) {
  const int32_t shift = place % size;
  const int64_t own_begin = shift + floor_divide(diagonal - shift, size) * size;
  return {own_begin - (place - shift), own_begin};
}

LONGATTN_HOST_DEVICE void narrow_to_group(KeyBounds& keys, int64_t diagonal, int32_t size,
                                          int32_t place) {
  const Group group = group_of(diagonal, size, place);
  keys.begin = larger(keys.begin, group.begin);
  keys.end = smaller(keys.end, group.begin + size);
}

}  // namespace longattn::inline LONGATTN_ISA
