// SPDX-License-Identifier: BSD-3-Clause
// What a warp does together: shuffles, and the errors of warps that are not together.
#include <launch/launch.h>
#include <ptx/barrier.h>
#include <ptx/ldmatrix.h>
#include <ptx/shuffle.h>

#include <vector>

#include "expect.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

template <class Kernel, class... Arguments>
auto launching(Kernel* kernel, unsigned threads, const Arguments&... arguments) {
  return [=] { longattn::cuda::launch("kernel", kernel, 1, threads, 1024, nullptr, arguments...); };
}

template <class Value>
__global__ void exchange(Value* values, int lane_mask) {
  values[threadIdx.x] = shuffle_xor(values[threadIdx.x], lane_mask);
}

template <class Value>
void test_exchange(const std::string& setting) {
  for (int lane_mask : {0, 1, 2, 5, 16, 31}) {
    std::vector<Value> values(64);
    for (int i = 0; i < 64; ++i) values[i] = static_cast<Value>(i * 3 - 40);
    launching(exchange<Value>, 64, values.data(), lane_mask)();
    for (int i = 0; i < 64; ++i) {
      expect_equal("shuffle_xor" + setting, values[i],
                   static_cast<Value>((i ^ lane_mask) * 3 - 40));
    }
  }
}

__global__ void sum_all(float* sums) {
  float sum = static_cast<float>(threadIdx.x);
  for (int lane_mask = 16; lane_mask > 0; lane_mask /= 2) sum += shuffle_xor(sum, lane_mask);
  sums[threadIdx.x] = sum;
}

__global__ void neighbours(int* numbers, bool* wrong) {
  numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
  synchronize_warp();
  if (numbers[threadIdx.x ^ 7] != static_cast<int>(threadIdx.x ^ 7)) *wrong = true;
}

__global__ void half_shuffles(float* values) {
  if (threadIdx.x < 16) values[threadIdx.x] = shuffle_xor(values[threadIdx.x], 1);
}

__global__ void half_waits(float* values) {
  if (threadIdx.x < 32 || threadIdx.x >= 48) {
    synchronize_block();
  } else {
    values[threadIdx.x] = shuffle_xor(values[threadIdx.x], 1);
  }
}

__global__ void two_ways(float* values) {
  if (threadIdx.x % 2 == 0) {
    values[threadIdx.x] = shuffle_xor(values[threadIdx.x], 1);
  } else {
    values[threadIdx.x] = shuffle_xor(values[threadIdx.x], 2);
  }
}

__global__ void two_operations() {
  if (threadIdx.x % 2 == 0) {
    synchronize_warp();
  } else {
    uint32_t r[4];
    ldmatrix_x4(r, shared_address(&shared_memory<char>()));
  }
}

void test_errors(const std::string& setting) {
  std::vector<float> values(64);
  expect_error("half a warp" + setting, {"shuffle_xor at test_warp.cpp:", "lanes 0x", "exit"},
               launching(half_shuffles, 32, values.data()));
  expect_error("half a warp at a barrier" + setting,
               {"deadlock", "wait in shuffle_xor at test_warp.cpp:",
                "lanes 0x0000ffff of warp 1 have arrived", "barrier 0: 48 of 64"},
               launching(half_waits, 64, values.data()));
  expect_error("two ways" + setting, {"divergent warp", "shuffle_xor at", "meets shuffle_xor at"},
               launching(two_ways, 32, values.data()));
  expect_error("two operations" + setting, {"divergent warp", "ldmatrix at", "synchronize_warp at"},
               launching(two_operations, 32));
  expect_error("mask" + setting, {"lane mask is 32", "0..31"},
               launching(exchange<float>, 32, values.data(), 32));
}

// Whichever half of the warp comes first, the other one is missing.
void test_exits() {
  std::vector<float> values(32);
  settings().order = Order::kForward;
  expect_error("shuffled, then exited",
               {"the thread exits, but the lanes 0x0000ffff", "wait for it"},
               launching(half_shuffles, 32, values.data()));
  settings().order = Order::kReverse;
  expect_error("exited, then shuffled", {"needs the whole warp", "lanes 0xffff0000 have exited"},
               launching(half_shuffles, 32, values.data()));
  settings() = {};
}

}  // namespace

int main() {
  under_every_setting([](const std::string& setting) {
    test_exchange<float>(setting);
    test_exchange<int32_t>(setting);
    test_exchange<uint32_t>(setting);
    std::vector<float> sums(64);
    launching(sum_all, 64, sums.data())();
    for (int i = 0; i < 64; ++i) {
      expect_equal("sum" + setting, sums[i], i < 32 ? 496.0f : 496.0f + 32 * 32);
    }
    std::vector<int> numbers(64);
    bool wrong = false;
    launching(neighbours, 64, numbers.data(), &wrong)();
    expect("synchronize_warp" + setting, !wrong);
    test_errors(setting);
  });
  test_exits();
  return report();
}
