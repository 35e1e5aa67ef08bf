// SPDX-License-Identifier: BSD-3-Clause
// Who runs next. Threads switch only where they wait, and, in random order, before some accesses
// of wrappers to memory.
#pragma once

#include <cstdint>

#include "machine/where.h"

namespace simt {

// The running thread waits, for a barrier or (-1) for something else, until `make_runnable`.
void wait(const char* what, int barrier, Where where);

void make_runnable(int thread);

// The running thread stays runnable and lets the settings choose.
void give_way();

// Does so now and then where the order is random: lanes of a warp need not run in step.
void maybe_give_way();

// A random number from the settings' seed.
uint32_t random_number();

// For launch: runs all threads of the block to their end, or to the first error.
void run_threads();

}  // namespace simt
