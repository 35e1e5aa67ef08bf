// SPDX-License-Identifier: BSD-3-Clause
// The sixteen barriers of the running block. Warps arrive whole and from one line of the kernel.
#pragma once

#include <cstdint>

#include "machine/where.h"

namespace simt {

void bar_sync(uint32_t barrier, uint32_t threads, Where where);
void bar_arrive(uint32_t barrier, uint32_t threads, Where where);

// Barrier 0 over all threads that have not exited.
void synchronize_block(Where where);

// For the machine: the running thread has ended, which may complete a barrier.
void thread_exits_barriers();

}  // namespace simt
