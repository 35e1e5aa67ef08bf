// SPDX-License-Identifier: BSD-3-Clause
// Asynchronous copies from global to shared memory. A thread waits for its own copies only: others
// see them after a barrier that follows the wait.
#pragma once

#include <ptx/device.h>

namespace longattn::ptx {

// Copies 16 aligned bytes past the L1 cache; writes zeros, and reads nothing, where not `valid`.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cp-async
LONGATTN_DEVICE void cp_async_16(uint32_t smem, const void* global, bool valid) {
  const uint32_t source_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem),
               "l"(__cvta_generic_to_global(global)), "r"(source_bytes)
               : "memory");
}

// Makes one group of the copies issued since the last commit; the group may be empty.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cp-async-commit-group
LONGATTN_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the `kPending` latest groups are still on their way.
// https://docs.nvidia.com/cuda/parallel-thread-execution/#data-movement-and-conversion-instructions-cp-async-wait-group-cp-async-wait-all
template <int kPending>
LONGATTN_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace longattn::ptx
