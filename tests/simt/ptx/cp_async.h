// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/cp_async.h.
#pragma once

#include <ptx/device.h>

#include "machine/async_copy.h"

namespace longattn::ptx {

LONGATTN_DEVICE void cp_async_16(uint32_t smem, const void* global, bool valid,
                                 simt::Where where = simt::Where::current()) {
  simt::copy_async(smem, global, valid, where);
}

LONGATTN_DEVICE void cp_async_commit() { simt::commit_copies(); }

template <int kPending>
LONGATTN_DEVICE void cp_async_wait() {
  static_assert(kPending >= 0, "the number of groups that may still be on their way");
  simt::wait_for_copies(kPending);
}

}  // namespace longattn::ptx
