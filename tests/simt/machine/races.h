// SPDX-License-Identifier: BSD-3-Clause
// Races within a block: two threads touch the same bytes of shared or, by wrappers, of global
// memory, one of them writes, and nothing orders them. Found in whatever order they happened to
// run, from which accesses each thread is known to have seen: barriers and synchronize_warp hand
// that on; no other operation of a warp does.
//
// An asynchronous copy writes from its issue until its thread has waited for it, so that a missing
// wait, or a stage refilled too early, is a race wherever the copy happened to land.
#pragma once

#include <array>
#include <cstdint>

#include "machine/where.h"

namespace simt {

inline constexpr int kMostWarps = 32;  // of a block

// How far each warp has come, as someone knows: all sync operations are those of whole warps, so
// that threads of a warp count alike.
using Progress = std::array<uint32_t, kMostWarps>;

// Where an access stands: a line of the kernel, or, of a plain load or store, its machine code.
struct Origin {
  Where where;
  const void* code = nullptr;
};

// The running thread is about to touch bytes of shared memory; a lane of its warp does.
void shared_is_read(uint32_t address, uint32_t bytes, Origin origin);
void shared_is_written(uint32_t address, uint32_t bytes, Origin origin);
void shared_is_read_by(int lane, uint32_t address, uint32_t bytes, Origin origin);

// Likewise of global memory.
void global_is_read(const void* pointer, uint32_t bytes, Origin origin);
void global_is_written(const void* pointer, uint32_t bytes, Origin origin);

// A copy of the running thread is on its way to 16 bytes; it has been waited for.
void copy_begins(uint32_t address, Origin origin);
void copy_ends(uint32_t address);

// The running thread arrives at a barrier: whoever leaves it has seen what the thread has done.
void tell_progress(Progress& barrier);

// A warp leaves the barrier.
void learn_progress(int warp, const Progress& barrier);

// All lanes of a warp have met in synchronize_warp.
void lanes_have_met(int warp);

// Before a block: everything is forgotten.
void forget_accesses();

}  // namespace simt
