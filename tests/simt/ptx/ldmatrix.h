// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/ldmatrix.h.
#pragma once

#include <ptx/device.h>

#include "machine/matrix.h"

namespace longattn::ptx {

LONGATTN_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t smem,
                                 simt::Where where = simt::Where::current()) {
  simt::load_matrices(r, smem, simt::Transposed::kNo, where);
}

LONGATTN_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t smem,
                                       simt::Where where = simt::Where::current()) {
  simt::load_matrices(r, smem, simt::Transposed::kYes, where);
}

}  // namespace longattn::ptx
