// SPDX-License-Identifier: BSD-3-Clause
// Orders differ as they say, seeds decide all that is left to chance, and names are checked.
#include <launch/launch.h>
#include <ptx/barrier.h>

#include <cstdlib>
#include <vector>

#include "expect.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

__global__ void note_order(std::vector<unsigned>* threads) {
  synchronize_warp();
  threads->push_back(threadIdx.x);
  synchronize_warp();
  threads->push_back(threadIdx.x);
}

std::vector<unsigned> order_of(const Settings& chosen) {
  settings() = chosen;
  std::vector<unsigned> threads;
  longattn::cuda::launch("note_order", note_order, 1, 64, 0, nullptr, &threads);
  settings() = {};
  return threads;
}

size_t place_of(const std::vector<unsigned>& threads, unsigned thread, int time) {
  for (size_t place = 0;; ++place) {
    if (threads.at(place) == thread && time-- == 0) return place;
  }
}

void test_orders() {
  const std::vector<unsigned> forward = order_of({.order = Order::kForward});
  expect("forward: warp 0 ends first", place_of(forward, 0, 1) < place_of(forward, 32, 0));
  const std::vector<unsigned> reverse = order_of({.order = Order::kReverse});
  expect("reverse: warp 1 ends first", place_of(reverse, 63, 1) < place_of(reverse, 31, 0));
  const std::vector<unsigned> turns = order_of({});
  expect("round robin: warps take turns", place_of(turns, 32, 0) < place_of(turns, 0, 1) &&
                                              place_of(turns, 0, 0) < place_of(turns, 32, 1));
  const Settings chance{.order = Order::kRandom, .seed = 3};
  expect("a seed gives one order", order_of(chance) == order_of(chance));
  expect("seeds give different orders",
         order_of(chance) != order_of({.order = Order::kRandom, .seed = 4}));
}

void test_environment() {
  setenv("SIMT_ORDER", "reverse", 1);
  setenv("SIMT_ASYNC", "random", 1);
  setenv("SIMT_SEED", "77", 1);
  const Settings found = settings_from_environment();
  expect("from the environment",
         found.order == Order::kReverse && found.async == Async::kRandom && found.seed == 77);
  setenv("SIMT_SEED", "7x", 1);
  expect_error("seed", {"SIMT_SEED is '7x'"}, [] { settings_from_environment(); });
  setenv("SIMT_SEED", "", 1);
  setenv("SIMT_ORDER", "sideways", 1);
  expect_error("order", {"'sideways'", "round_robin, forward, reverse or random"},
               [] { settings_from_environment(); });
  unsetenv("SIMT_ORDER");
  setenv("SIMT_ASYNC", "soon", 1);
  expect_error("async", {"'soon'", "lazy, eager or random"}, [] { settings_from_environment(); });
  unsetenv("SIMT_ASYNC");
  setenv("SIMT_RACES", "off", 1);
  expect("races off", !settings_from_environment().races);
  setenv("SIMT_RACES", "no", 1);
  expect_error("races", {"SIMT_RACES is 'no'", "on or off"}, [] { settings_from_environment(); });
  unsetenv("SIMT_RACES");
  const Settings defaults = settings_from_environment();
  expect("defaults", defaults.order == Order::kRoundRobin && defaults.async == Async::kLazy &&
                         defaults.seed == 1 && defaults.races);
}

}  // namespace

int main() {
  test_orders();
  test_environment();
  return report();
}
