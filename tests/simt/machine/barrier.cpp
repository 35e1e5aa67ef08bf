// SPDX-License-Identifier: BSD-3-Clause
#include "machine/barrier.h"

#include <bit>

#include "machine/block.h"
#include "machine/counts.h"
#include "machine/races.h"
#include "machine/report.h"
#include "machine/schedule.h"
#include "machine/settings.h"

namespace simt {
namespace {

// One arrival as the kernel wrote it.
struct Arrival {
  const char* what;
  uint32_t barrier;
  int threads;
  bool waits;
  bool exited_count;
  Where where;

  std::string named() const {
    return std::string(what) + " " + std::to_string(barrier) + " at " + text(where) + ": ";
  }
};

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column();
}

void check_alone(const Arrival& arrival) {
  const int threads = arrival.threads;
  if (arrival.barrier >= kBarriers) fail(arrival.named() + "a block has barriers 0..15.");
  if (threads <= 0 || threads % kLanes != 0 || threads > block().thread_count) {
    fail(arrival.named() + "it counts " + std::to_string(threads) +
         " threads; the count is a multiple of 32, at most the block's " +
         std::to_string(block().thread_count) + ".");
  }
}

void check_against_others(const Arrival& arrival, const Barrier& barrier) {
  const Thread& self = current_thread();
  if (barrier.arrived == 0) return;
  if (barrier.expected != arrival.threads) {
    fail(arrival.named() + "it counts " + std::to_string(arrival.threads) + " threads, but " +
         text(barrier.where) + " counts " + std::to_string(barrier.expected) + ".");
  }
  const uint32_t lanes = barrier.lanes[self.warp()];
  if ((lanes & self.lane_bit()) != 0) {
    fail(arrival.named() + "the thread has arrived before and the barrier is not complete yet.");
  }
  if (lanes != 0 && !same_place(barrier.lines[self.warp()], arrival.where)) {
    fail(arrival.named() + "the warp is divided, its lanes " + hexadecimal(lanes) +
         " have arrived at " + text(barrier.lines[self.warp()]) + ".");
  }
}

// The hardware counts warps: one that is divided would be counted more than once.
void check_whole_warps(uint32_t index, const Barrier& barrier) {
  for (int warp = 0; warp < kMaxWarps; ++warp) {
    const uint32_t lanes = barrier.lanes[warp];
    const uint32_t exited = barrier.exited_count ? block().warps[warp].exited : 0;
    if (lanes == 0 || (lanes | exited) == ~0u) continue;
    fail("barrier " + std::to_string(index) + " completes with " + std::to_string(barrier.arrived) +
         " threads, but of warp " + std::to_string(warp) + " only the lanes " + hexadecimal(lanes) +
         " have arrived, at " + text(barrier.lines[warp]) +
         ": the warp is divided, or more warps use the barrier than it counts.");
  }
}

bool is_complete(const Barrier& barrier) {
  const int exited = barrier.exited_count ? block().exited : 0;
  return barrier.arrived > 0 && barrier.arrived + exited >= barrier.expected;
}

void complete(uint32_t index) {
  Barrier& barrier = block().barriers[index];
  check_whole_warps(index, barrier);
  for (int warp = 0; warp < kMaxWarps; ++warp) {
    if (barrier.waiting[warp] != 0) learn_progress(warp, barrier.seen);
    for (uint32_t waiting = barrier.waiting[warp]; waiting != 0; waiting &= waiting - 1) {
      make_runnable(warp * kLanes + std::countr_zero(waiting));
    }
  }
  barrier = {};
  ++counts().barriers;
}

void arrive(const Arrival& arrival) {
  maybe_give_way();
  check_alone(arrival);
  const Thread& self = current_thread();
  Barrier& barrier = block().barriers[arrival.barrier];
  check_against_others(arrival, barrier);
  if (barrier.arrived == 0) barrier.where = arrival.where;
  barrier.expected = arrival.threads;
  barrier.exited_count = barrier.exited_count && arrival.exited_count;
  barrier.lines[self.warp()] = arrival.where;
  barrier.lanes[self.warp()] |= self.lane_bit();
  ++barrier.arrived;
  tell_progress(barrier.seen);
  if (is_complete(barrier)) {
    if (arrival.waits) learn_progress(self.warp(), barrier.seen);
    complete(arrival.barrier);
    // Whoever arrives last would otherwise always be the first to go on.
    if (arrival.waits && settings().order != Order::kRoundRobin) give_way();
  } else if (arrival.waits) {
    barrier.waiting[self.warp()] |= self.lane_bit();
    wait(arrival.what, static_cast<int>(arrival.barrier), arrival.where);
  }
}

}  // namespace

void bar_sync(uint32_t barrier, uint32_t threads, Where where) {
  arrive({"bar.sync", barrier, static_cast<int>(threads), true, false, where});
}

void bar_arrive(uint32_t barrier, uint32_t threads, Where where) {
  arrive({"bar.arrive", barrier, static_cast<int>(threads), false, false, where});
}

void synchronize_block(Where where) {
  current_thread();
  arrive({"synchronize_block: bar.sync", 0, block().thread_count, true, true, where});
}

void thread_exits_barriers() {
  for (uint32_t index = 0; index < kBarriers; ++index) {
    const Barrier& barrier = block().barriers[index];
    // The thread itself is not among the exited yet.
    if (barrier.arrived > 0 && barrier.exited_count &&
        barrier.arrived + block().exited + 1 >= barrier.expected) {
      complete(index);
    }
  }
}

}  // namespace simt
