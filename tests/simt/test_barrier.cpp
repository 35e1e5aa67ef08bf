// SPDX-License-Identifier: BSD-3-Clause
// Barriers order what threads do, and each way to use them wrongly is told apart.
#include <launch/launch.h>
#include <ptx/barrier.h>

#include <vector>

#include "expect.h"
#include "machine/counts.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

template <class Kernel, class... Arguments>
auto launching(Kernel* kernel, unsigned threads, const Arguments&... arguments) {
  return [=] { longattn::cuda::launch("kernel", kernel, 1, threads, 1024, nullptr, arguments...); };
}

// Each thread reads what its neighbours in other warps wrote, round after round.
__global__ void pass_round(int* numbers, bool* wrong) {
  const int threads = static_cast<int>(blockDim.x);
  const int self = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 5; ++round) {
    numbers[self] = round * 1000 + self;
    synchronize_block();
    const int other = (self + 33) % threads;
    if (numbers[other] != round * 1000 + other) *wrong = true;
    synchronize_block();
  }
}

// Warp 0 hands numbers to warp 1 through a slot: barrier 1 says full, barrier 2 says empty.
__global__ void hand_over(int* slot, int* received) {
  const bool produces = threadIdx.x < 32;
  const int lane = threadIdx.x % 32;
  for (int round = 0; round < 4; ++round) {
    if (produces) {
      if (round > 0) bar_sync(2, 64);
      slot[lane] = round * 100 + lane;
      bar_arrive(1, 64);
    } else {
      bar_sync(1, 64);
      received[round * 32 + lane] = slot[lane];
      if (round < 3) bar_arrive(2, 64);
    }
  }
}

// Threads that have exited count for the block's barrier.
__global__ void exit_early(int* passed) {
  if (threadIdx.x >= 40) return;
  synchronize_block();
  ++*passed;
}

void test_order(const std::string& setting) {
  std::vector<int> numbers(128);
  bool wrong = false;
  launching(pass_round, 128, numbers.data(), &wrong)();
  expect("threads see each other's numbers" + setting, !wrong);

  std::vector<int> slot(32), received(128, -1);
  launching(hand_over, 64, slot.data(), received.data())();
  for (int i = 0; i < 128; ++i) {
    expect_equal("handed over" + setting, received[i], i / 32 * 100 + i % 32);
  }

  int passed = 0;
  launching(exit_early, 128, &passed)();
  expect_equal("passed" + setting, passed, 40);
}

void test_counts() {
  std::vector<int> numbers(128);
  bool wrong = false;
  take_counts();
  longattn::cuda::launch("pass_round", pass_round, 3, 128, 0, nullptr, numbers.data(), &wrong);
  const Counts counted = take_counts();
  expect_equal("blocks", counted.blocks, uint64_t{3});
  expect_equal("barriers", counted.barriers, uint64_t{3 * 5 * 2});
}

__global__ void only_some_warps() {
  if (threadIdx.x < 64) bar_sync(3, 96);
}

__global__ void only_one_warp_of_two() {
  if (threadIdx.x < 32) {
    bar_sync(1, 64);
  } else {
    bar_sync(2, 64);
  }
}

__global__ void count_differently() { bar_sync(1, threadIdx.x < 32 ? 64 : 96); }

__global__ void divide_a_warp() {
  if (threadIdx.x % 32 < 16) {
    synchronize_block();
  } else {
    synchronize_block();
  }
}

__global__ void use_half_warps() {
  if (threadIdx.x % 32 < 16) bar_sync(1, 32);  // the others exit, sooner or later
}

__global__ void arrive_twice() {
  bar_arrive(1, 64);
  if (threadIdx.x < 32) bar_sync(1, 64);
}

__global__ void use_barrier(uint32_t barrier, uint32_t threads) { bar_sync(barrier, threads); }

void test_errors(const std::string& setting) {
  expect_error("deadlock" + setting,
               {"simt: kernel kernel, block 0", "deadlock",
                "threads 0..63 wait in bar.sync at "
                "test_barrier.cpp:",
                "barrier 3: 64 of 96 threads", "32 threads have exited"},
               launching(only_some_warps, 96));
  expect_error("crossed barriers" + setting,
               {"deadlock", "threads 0..31 wait", "barrier 1: 32 of 64", "threads 32..63 wait",
                "barrier 2: 32 of 64", "0 threads have exited"},
               launching(only_one_warp_of_two, 64));
  expect_error("counts" + setting, {"bar.sync 1 at test_barrier.cpp:", "64", "96", " counts "},
               launching(count_differently, 96));
  expect_error("divided warp" + setting, {"bar.sync 0 at", "the warp is divided"},
               launching(divide_a_warp, 64));
  expect_error("half warps" + setting, {"barrier 1", "only the lanes 0x"},
               launching(use_half_warps, 64));
  expect_error("twice" + setting, {"arrived before"}, launching(arrive_twice, 64));
  expect_error("barrier 16" + setting, {"bar.sync 16", "barriers 0..15"},
               launching(use_barrier, 64, 16u, 64u));
  for (uint32_t threads : {0u, 33u, 96u}) {
    expect_error("thread count" + setting,
                 {"counts " + std::to_string(threads) + " threads", "multiple of 32", "block's 64"},
                 launching(use_barrier, 64, 1u, threads));
  }
  expect("all is well after errors" + setting,
         error_of(launching(use_barrier, 64, 1u, 64u)).empty());
}

}  // namespace

int main() {
  under_every_setting([](const std::string& setting) {
    test_order(setting);
    test_errors(setting);
  });
  test_counts();
  return report();
}
