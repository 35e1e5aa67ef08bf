// SPDX-License-Identifier: BSD-3-Clause
// What all 32 lanes of a warp do together: each lane leaves the address of its arguments, and the
// lane that arrives last executes the operation for all of them.
#pragma once

#include <cstdint>

#include "machine/where.h"

namespace simt {

inline constexpr int kLanes = 32;

// `execute` gets the arguments of the 32 lanes in order.
using WarpOperation = void (*)(void* const* arguments, Where where);

void run_in_warp(const char* what, void* arguments, WarpOperation execute, Where where);

void synchronize_warp(Where where);

uint32_t shuffle_xor(uint32_t value, int lane_mask, Where where);

// For the machine: the running thread has ended.
void thread_exits_warp();

}  // namespace simt
