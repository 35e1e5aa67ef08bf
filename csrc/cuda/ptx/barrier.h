// SPDX-License-Identifier: BSD-3-Clause
// Barriers of a block and of a warp.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

// Waits until `threads` threads (whole warps) have arrived at one of the barriers 0..15; what they
// wrote before is then visible.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-bar
LONGATTN_DEVICE void bar_sync(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Arrives without waiting.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-bar
LONGATTN_DEVICE void bar_arrive(uint32_t barrier, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// bar.sync 0 over all threads of the block.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-bar
LONGATTN_DEVICE void synchronize_block() { __syncthreads(); }

// bar.warp.sync over all lanes.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#parallel-synchronization-and-communication-instructions-bar-warp-sync
LONGATTN_DEVICE void synchronize_warp() { __syncwarp(); }

}  // namespace longattn::ptx
