// SPDX-License-Identifier: BSD-3-Clause
// The walk of a thread block over tiles: while one is worked on in its stage of shared memory, the
// next is on its way to the other stage.
#pragma once

#include <cstdint>

#include <ptx/barrier.h>
#include <ptx/cp_async.h>

namespace longattn::cuda {

inline constexpr int kStages = 2;

// load(i) begins the copies of tile i to stage i % kStages, and may begin to read numbers into
// registers; settle(i) puts those into the stage, one visit later, when they are there; visit(i)
// works on the tile. Copies that were begun before the walk have landed with those of tile 0, and
// without any tile when the walk ends.
template <class Load, class Settle, class Visit>
LONGATTN_DEVICE void walk_tiles(int32_t count, Load load, Settle settle, Visit visit) {
  if (count > 0) load(0);
  ptx::cp_async_commit();
  for (int32_t i = 0; i < count; ++i) {
    settle(i);                       // every warp left that stage before the last barrier
    ptx::cp_async_wait<0>();         // this thread's part of tile i has landed,
    ptx::synchronize_block();        // and everyone's; and no warp still reads tile i - 1,
    if (i + 1 < count) load(i + 1);  // whose stage is filled again
    ptx::cp_async_commit();
    visit(i);
  }
  ptx::cp_async_wait<0>();  // nothing may land in shared memory after the block has ended
}

}  // namespace longattn::cuda
