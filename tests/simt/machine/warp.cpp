// SPDX-License-Identifier: BSD-3-Clause
#include "machine/warp.h"

#include "machine/block.h"
#include "machine/races.h"
#include "machine/report.h"
#include "machine/schedule.h"

namespace simt {
namespace {

constexpr uint32_t kWholeWarp = ~0u;

std::string named(const char* what, const Where& where) {
  return std::string(what) + " at " + text(where);
}

// Lanes that went different ways must not meet in a warp-wide operation.
void check_lane(const Warp& warp, const char* what, const Where& where) {
  if (warp.exited != 0) {
    fail(named(what, where) + " needs the whole warp, but its lanes " + hexadecimal(warp.exited) +
         " have exited.");
  }
  if (warp.arrived == 0) return;
  const bool same = warp.what == what && warp.where.line() == where.line() &&
                    warp.where.column() == where.column();
  if (!same) {
    fail("divergent warp: " + named(what, where) + " meets " + named(warp.what, warp.where) +
         ", where the lanes " + hexadecimal(warp.arrived) + " of the warp have arrived.");
  }
}

struct Shuffle {
  uint32_t value;
  int lane_mask;
  uint32_t result;
};

void exchange(void* const* arguments, Where) {
  for (int lane = 0; lane < kLanes; ++lane) {
    Shuffle& mine = *static_cast<Shuffle*>(arguments[lane]);
    mine.result = static_cast<const Shuffle*>(arguments[lane ^ mine.lane_mask])->value;
  }
}

}  // namespace

void run_in_warp(const char* what, void* arguments, WarpOperation execute, Where where) {
  maybe_give_way();
  const Thread& self = current_thread();
  Warp& warp = block().warps[self.warp()];
  check_lane(warp, what, where);
  warp.what = what;
  warp.where = where;
  warp.arguments[self.lane()] = arguments;
  warp.arrived |= self.lane_bit();
  if (warp.arrived != kWholeWarp) {
    wait(what, -1, where);
    return;
  }
  warp.arrived = 0;
  execute(warp.arguments.data(), where);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lane != self.lane()) make_runnable(self.warp() * kLanes + lane);
  }
}

void synchronize_warp(Where where) {
  const auto meet = [](void* const*, Where) { lanes_have_met(current_thread().warp()); };
  run_in_warp("synchronize_warp", nullptr, meet, where);
}

uint32_t shuffle_xor(uint32_t value, int lane_mask, Where where) {
  if (lane_mask < 0 || lane_mask >= kLanes) {
    fail("shuffle_xor at " + text(where) + ": the lane mask is " + std::to_string(lane_mask) +
         "; it takes 0..31.");
  }
  Shuffle shuffle{value, lane_mask, 0};
  run_in_warp("shuffle_xor", &shuffle, exchange, where);
  return shuffle.result;
}

void thread_exits_warp() {
  const Thread& self = current_thread();
  Warp& warp = block().warps[self.warp()];
  warp.exited |= self.lane_bit();
  if (warp.arrived != 0) {
    fail("the thread exits, but the lanes " + hexadecimal(warp.arrived) +
         " of its warp wait for it in " + named(warp.what, warp.where) + ".");
  }
}

}  // namespace simt
