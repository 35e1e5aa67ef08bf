// SPDX-License-Identifier: BSD-3-Clause
// Races on shared memory are found under every schedule, also under those that give right results,
// with both threads and lines; what barriers order is none.
#include <launch/launch.h>
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/ldmatrix.h>
#include <ptx/memory.h>
#include <ptx/shuffle.h>

#include "expect.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

constexpr int kThreads = 64;

struct Plan {
  alignas(16) uint32_t words[4 * kThreads];
  float numbers[kThreads];
  bool flags[kThreads];
};

alignas(16) uint32_t source[4 * kThreads];

// What orders the two halves of a kernel.
enum class Meeting {
  kNothing,
  kBlock,
  kWarp,
  kShuffle,
  kNamed,
  kOtherWay,  // the second warp arrives and the first one waits
};

template <Meeting kMeeting>
LONGATTN_DEVICE void meet() {
  if (kMeeting == Meeting::kBlock) synchronize_block();
  if (kMeeting == Meeting::kWarp) synchronize_warp();
  if (kMeeting == Meeting::kShuffle) shuffle_xor(1.0f, 1);
  if (kMeeting == Meeting::kNamed || kMeeting == Meeting::kOtherWay) {
    const bool waits = (threadIdx.x >= 32) == (kMeeting == Meeting::kNamed);
    if (waits) {
      bar_sync(1, kThreads);
    } else {
      bar_arrive(1, kThreads);
    }
  }
}

// The first thread writes, thread `reader` reads.
template <Meeting kMeeting>
__global__ void hand_over(unsigned reader) {
  const uint32_t place = shared_address(shared_memory<Plan>().words);
  if (threadIdx.x == 0) store_shared_4(place, 7);
  meet<kMeeting>();
  if (threadIdx.x == reader) load_shared_float(place);
}

template <Meeting kMeeting>
__global__ void hand_over_plainly(unsigned reader, float* result) {
  Plan& plan = shared_memory<Plan>();
  if (threadIdx.x == 0) plan.numbers[3] = 7.0f;
  meet<kMeeting>();
  if (threadIdx.x == reader) *result = plan.numbers[3];
}

// Lane 1 reads global memory, then lane 0 replaces what it has read.
template <Meeting kMeeting>
__global__ void replace(float* number) {
  if (threadIdx.x == 1) load_global_float(number);
  meet<kMeeting>();
  if (threadIdx.x == 0) store_global_float(number, 3.0f);
}

// Every thread has bytes of its own, many of them in one word.
__global__ void keep_apart(int* result) {
  Plan& plan = shared_memory<Plan>();
  plan.flags[threadIdx.x] = threadIdx.x % 3 == 0;
  plan.numbers[threadIdx.x] = 1.0f;
  *result += plan.flags[threadIdx.x] + static_cast<int>(plan.numbers[threadIdx.x]);
}

// Reads of many threads; then one writes.
template <Meeting kMeeting>
__global__ void overwrite(float* result) {
  Plan& plan = shared_memory<Plan>();
  if (threadIdx.x == 0) plan.numbers[0] = 1.0f;
  synchronize_block();
  *result += plan.numbers[0];
  meet<kMeeting>();
  if (threadIdx.x == 5) plan.numbers[0] = 2.0f;
}

// Warps read what they copied themselves, if `all` what others copied, with ldmatrix.
template <bool kWaits, Meeting kMeeting>
__global__ void copy_and_read() {
  const uint32_t place = shared_address(shared_memory<Plan>().words);
  cp_async_16(place + threadIdx.x * 16, source + threadIdx.x * 4, true);
  cp_async_commit();
  if (kWaits) cp_async_wait<0>();
  meet<kMeeting>();
  uint32_t registers[4];
  ldmatrix_x4(registers, place + threadIdx.x % 32 * 16);
  cp_async_wait<0>();
}

// The stage is filled again while others may still read it.
template <Meeting kMeeting>
__global__ void refill() {
  const uint32_t place = shared_address(shared_memory<Plan>().words);
  store_shared_4(place + threadIdx.x * 16, 0);
  synchronize_block();
  load_shared_float(place + (threadIdx.x + 1) % kThreads * 16);
  meet<kMeeting>();
  cp_async_16(place + threadIdx.x * 16, source, false);
  cp_async_commit();
  cp_async_wait<0>();
}

template <class Kernel, class... Arguments>
std::string run(Kernel* kernel, Arguments... arguments) {
  return error_of([&] {
    longattn::cuda::launch("racing", kernel, 1, kThreads, sizeof(Plan), nullptr, arguments...);
  });
}

template <class... Parts>
void expect_race(const std::string& name, const std::string& error, const Parts&... parts) {
  for (const std::string& part : {std::string("race on shared memory"), std::string(parts)...}) {
    expect(name + ": '" + error + "' lacks '" + part + "'", error.find(part) != std::string::npos);
  }
}

void test_every_setting(const std::string& setting) {
  float number = 0;
  int count = 0;
  const auto fine = [&](const char* name, const std::string& error) {
    expect(name + setting + error, error.empty());
  };
  const auto races = [&](const char* name, const std::string& error, const char* part = "") {
    expect_race(name + setting, error, part);
  };
  races("nothing", run(hand_over<Meeting::kNothing>, 40u), "thread 40 ");
  races("nothing, in a warp", run(hand_over<Meeting::kNothing>, 9u), "thread 0 ");
  races("a warp is not the block", run(hand_over<Meeting::kWarp>, 40u));
  races("shuffles order no memory", run(hand_over<Meeting::kShuffle>, 9u));
  races("who arrives sees nothing", run(hand_over<Meeting::kOtherWay>, 40u));
  fine("block", run(hand_over<Meeting::kBlock>, 40u));
  fine("warp", run(hand_over<Meeting::kWarp>, 9u));
  fine("arrives and waits", run(hand_over<Meeting::kNamed>, 40u));
  fine("itself", run(hand_over<Meeting::kNothing>, 0u));

  races("plain", run(hand_over_plainly<Meeting::kNothing>, 40u, &number), "a plain access (");
  races("plain, in a warp", run(hand_over_plainly<Meeting::kNothing>, 9u, &number));
  fine("plain, block", run(hand_over_plainly<Meeting::kBlock>, 40u, &number));
  fine("plain, warp", run(hand_over_plainly<Meeting::kWarp>, 9u, &number));
  fine("neighbours", run(keep_apart, &count));
  expect("global" + setting,
         run(replace<Meeting::kNothing>, &number).find("race on global memory") !=
             std::string::npos);
  fine("global, warp", run(replace<Meeting::kWarp>, &number));

  races("readers", run(overwrite<Meeting::kNothing>, &number));
  races("readers of the other warp", run(overwrite<Meeting::kWarp>, &number));
  fine("readers that are waited for", run(overwrite<Meeting::kBlock>, &number));

  races("no wait", run(copy_and_read<false, Meeting::kBlock>), "is copying to");
  races("no barrier", run(copy_and_read<true, Meeting::kNothing>));
  races("no barrier of the block", run(copy_and_read<true, Meeting::kWarp>));
  fine("wait and barrier", run(copy_and_read<true, Meeting::kBlock>));
  races("refilled", run(refill<Meeting::kWarp>));
  fine("refilled in time", run(refill<Meeting::kBlock>));
}

}  // namespace

int main() {
  under_every_setting(test_every_setting);
  settings().races = false;
  expect("switched off", run(hand_over<Meeting::kNothing>, 40u).empty());
  return report();
}
