// SPDX-License-Identifier: BSD-3-Clause
// The block that runs: its threads, warps and barriers. There is one at a time.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "machine/async_copy.h"
#include "machine/fiber.h"
#include "machine/races.h"
#include "machine/runnable_set.h"
#include "machine/warp.h"
#include "machine/where.h"

namespace simt {

inline constexpr int kMaxThreads = 1024;
inline constexpr int kMaxWarps = kMaxThreads / kLanes;
static_assert(kMaxWarps == kMostWarps);
inline constexpr int kBarriers = 16;

struct Thread {
  Fiber fiber;
  int index = 0;
  bool exited = false;
  const char* waits_in = nullptr;  // nullptr: it does not wait
  int barrier = -1;                // that it waits for, if it does
  Where where;
  CopyQueue copies;
  uint32_t progress = 1;  // barriers and synchronize_warps that it has come to

  int warp() const { return index / kLanes; }
  int lane() const { return index % kLanes; }
  uint32_t lane_bit() const { return 1u << lane(); }
};

// The operation that some lanes of a warp have reached; lane sets are bit masks.
struct Warp {
  uint32_t arrived = 0;
  uint32_t exited = 0;
  const char* what = nullptr;
  Where where;
  std::array<void*, kLanes> arguments;
  Progress seen{};  // of all warps, what every lane of this one knows to have happened
};

struct Barrier {
  int expected = 0;
  int arrived = 0;                            // threads, in this phase
  bool exited_count = true;                   // whether threads that have exited count as arrived
  Where where;                                // of the phase's first arrival
  std::array<uint32_t, kMaxWarps> lanes{};    // arrived, by warp
  std::array<uint32_t, kMaxWarps> waiting{};  // of these, those that wait
  std::array<Where, kMaxWarps> lines{};       // where each warp arrives
  Progress seen{};                            // by those that have arrived
};

struct Block {
  std::string kernel;
  unsigned index = 0;
  int thread_count = 0;
  int exited = 0;
  uint32_t shared_bytes = 0;
  uint64_t random_state = 0;
  int favoured_warp = 0;  // in random order, for `tenure` more choices
  int tenure = 0;
  std::string error;  // ends the launch
  std::string race;   // the first one; ends the launch after the block
  const std::function<void()>* body = nullptr;
  std::deque<Thread> threads;  // grows only: stacks are kept for later launches
  std::array<Warp, kMaxWarps> warps;
  std::array<Barrier, kBarriers> barriers;
  RunnableSet runnable;
  Fiber launcher;
  Thread* running = nullptr;  // nullptr outside of kernels
};

// Inline, as every lane of every operation asks for it many times.
inline Block& block() {
  static Block running;
  return running;
}

[[noreturn]] void fail_outside_of_kernels();

// The running thread; fails outside of a kernel.
inline Thread& current_thread() {
  Thread* running = block().running;
  if (running == nullptr) [[unlikely]]
    fail_outside_of_kernels();
  return *running;
}

}  // namespace simt
