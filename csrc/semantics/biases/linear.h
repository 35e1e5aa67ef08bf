// SPDX-License-Identifier: BSD-3-Clause
// -slope * |distance| (ALiBi).
#pragma once

#include "semantics/integers.h"

namespace longattn::inline LONGATTN_ISA {

template <class Real>
LONGATTN_HOST_DEVICE Real linear_bias(Real slope, int64_t distance) {
  return -slope * static_cast<Real>(larger(distance, -distance));
}

}  // namespace longattn::inline LONGATTN_ISA
