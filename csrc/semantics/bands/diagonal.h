// SPDX-License-Identifier: BSD-3-Clause
// Sees key rows [diagonal - left, diagonal + right]. A negative bound begins beyond the diagonal:
// right = -w sees only keys at a distance of w and more.
#pragma once

#include <limits>

#include "semantics/bands/bounds.h"

namespace longattn {

inline constexpr int32_t kUnbounded = std::numeric_limits<int32_t>::min();  // as in masks.py

inline namespace LONGATTN_ISA {

LONGATTN_HOST_DEVICE void narrow_to_diagonal(KeyBounds& keys, int64_t diagonal, int32_t left,
                                             int32_t right) {
  if (left != kUnbounded) keys.begin = larger(keys.begin, diagonal - left);
  if (right != kUnbounded) keys.end = smaller(keys.end, diagonal + right + 1);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
