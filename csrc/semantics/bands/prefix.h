// SPDX-License-Identifier: BSD-3-Clause
// Sees the first `length` key rows, and causally beyond them (prefix-LM).
#pragma once

#include "semantics/bands/bounds.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_prefix(KeyBounds& keys, int64_t diagonal, int32_t length) {
  keys.end = smaller(keys.end, larger(diagonal + 1, length));
}

}  // namespace longattn::inline LONGATTN_ISA
