// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/barrier.h.
#pragma once

#include <ptx/device.h>

#include "machine/barrier.h"
#include "machine/warp.h"

namespace longattn::ptx {

LONGATTN_DEVICE void bar_sync(uint32_t barrier, uint32_t threads,
                              simt::Where where = simt::Where::current()) {
  simt::bar_sync(barrier, threads, where);
}

LONGATTN_DEVICE void bar_arrive(uint32_t barrier, uint32_t threads,
                                simt::Where where = simt::Where::current()) {
  simt::bar_arrive(barrier, threads, where);
}

LONGATTN_DEVICE void synchronize_block(simt::Where where = simt::Where::current()) {
  simt::synchronize_block(where);
}

LONGATTN_DEVICE void synchronize_warp(simt::Where where = simt::Where::current()) {
  simt::synchronize_warp(where);
}

}  // namespace longattn::ptx
