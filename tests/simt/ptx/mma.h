// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/mma.h.
#pragma once

#include <ptx/device.h>

#include "machine/matrix.h"

namespace longattn::ptx {

template <HalfPrecision Element>
LONGATTN_DEVICE void mma_m16n8k16(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                  simt::Where where = simt::Where::current()) {
  simt::multiply_matrices<Element>(sum, a, b0, b1, where);
}

}  // namespace longattn::ptx
