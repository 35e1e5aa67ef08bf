// SPDX-License-Identifier: BSD-3-Clause
#include "machine/schedule.h"

#include <exception>

#include "machine/async_copy.h"
#include "machine/barrier.h"
#include "machine/block.h"
#include "machine/counts.h"
#include "machine/cuda_types.h"
#include "machine/report.h"
#include "machine/settings.h"
#include "machine/warp.h"

namespace simt {
namespace {

// A warp is favoured for some time, so that it can run far ahead of the others; its lanes take
// turns by chance. Threads chosen evenly would keep all warps in step and hide their races.
int random_thread() {
  constexpr uint32_t kTenures = 12;  // of 1, 2, 4, ... choices
  Block& b = block();
  if (b.tenure == 0) {
    b.tenure = 1 << random_number() % kTenures;
    b.favoured_warp = static_cast<int>(random_number() % (b.thread_count / kLanes));
  }
  --b.tenure;
  const int first_lane = b.favoured_warp * kLanes;
  const int lane = static_cast<int>(random_number() % kLanes);
  const int found = b.runnable.next_from(first_lane + lane);
  return found / kLanes == b.favoured_warp ? found : b.runnable.next_from(first_lane);
}

int next_thread(int after) {
  const Block& b = block();
  switch (settings().order) {
    case Order::kRoundRobin:
      return b.runnable.next_from(after + 1);
    case Order::kForward:
      return b.runnable.next_from(0);
    case Order::kReverse:
      return b.runnable.last();
    case Order::kRandom:
      return random_thread();
  }
  __builtin_unreachable();
}

// What must be set before thread `index` goes on.
Thread& takes_over(int index) {
  Block& b = block();
  Thread& thread = b.threads[index];
  b.runnable.erase(index);
  b.running = &thread;
  threadIdx = {static_cast<unsigned>(index), 0, 0};
  ++counts().switches;
  return thread;
}

// The running thread goes on once another one has chosen it.
void pause() {
  Thread& self = current_thread();
  const int next = next_thread(self.index);
  if (next == RunnableSet::kNone) fail(deadlock_report());
  Thread& thread = takes_over(next);
  if (&thread != &self) self.fiber.switch_to(thread.fiber);
}

[[noreturn]] void leave_block() {
  Block& b = block();
  Thread& self = *b.running;
  b.running = nullptr;
  self.fiber.end_in(b.launcher);
}

void run_body() {
  Thread& self = current_thread();
  try {
    (*block().body)();
    check_no_copies_are_left();
    self.exited = true;
    thread_exits_warp();
    thread_exits_barriers();
  } catch (const std::exception& error) {
    block().error = error.what();
  } catch (...) {
    block().error = error_prefix() + "the kernel threw something that is no std::exception.";
  }
}

// A thread's whole life; its exception state is clean whenever it switches.
void thread_main() {
  Fiber::entered();
  run_body();
  Block& b = block();
  Thread& self = current_thread();
  if (!b.error.empty() || ++b.exited == b.thread_count) leave_block();
  const int next = next_thread(self.index);
  if (next == RunnableSet::kNone) {
    b.error = error_prefix() + deadlock_report();
    leave_block();
  }
  self.fiber.end_in(takes_over(next).fiber);
}

}  // namespace

void wait(const char* what, int barrier, Where where) {
  Thread& self = current_thread();
  self.waits_in = what;
  self.barrier = barrier;
  self.where = where;
  pause();
  self.waits_in = nullptr;
}

void make_runnable(int thread) { block().runnable.insert(thread); }

void give_way() {
  make_runnable(current_thread().index);
  pause();
}

void maybe_give_way() {
  constexpr uint32_t kOneIn = 8;
  if (settings().order == Order::kRandom && random_number() % kOneIn == 0) give_way();
}

uint32_t random_number() {
  // splitmix64: any seed will do, and neighbouring seeds have nothing in common.
  uint64_t mixed = block().random_state += 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((mixed ^ mixed >> 31) >> 32);
}

void run_threads() {
  Block& b = block();
  for (int index = 0; index < b.thread_count; ++index) {
    Thread& thread = b.threads[index];
    thread.index = index;
    thread.exited = false;
    thread.waits_in = nullptr;
    thread.copies = {};
    thread.progress = 1;
    thread.fiber.begin_at(thread_main);
    make_runnable(index);
  }
  const int first = next_thread(b.thread_count - 1);
  b.launcher.switch_to(takes_over(first).fiber);
}

}  // namespace simt
