// SPDX-License-Identifier: BSD-3-Clause
// What the hardware leaves open, and how the emulator decides it in the next launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// Which runnable thread goes on, and in which order blocks run: the last ones first (reverse), by
// chance (random), else the first ones first. Forward and reverse let some warps run as far ahead
// as they can.
enum class Order { kRoundRobin, kForward, kReverse, kRandom };

// When asynchronous copies land.
enum class Async { kLazy, kEager, kRandom };

// The most that a block gets on sm_90; on sm_80 it is 163 KB.
inline constexpr size_t kMaxSharedBytes = 227 * 1024;

struct Settings {
  Order order = Order::kRoundRobin;
  Async async = Async::kLazy;
  uint64_t seed = 1;  // of both kinds of chance
  bool races = true;  // whether races on shared memory are looked for
  size_t shared_limit_bytes = kMaxSharedBytes;
};

// Throw a sentence for a name that is none of round_robin forward reverse random (order) or lazy
// eager random (async).
Order order_named(const std::string& name);
Async async_named(const std::string& name);

// The variables SIMT_ORDER, SIMT_ASYNC, SIMT_SEED and SIMT_RACES; defaults where they are not set.
Settings settings_from_environment();

// In force; the environment's at first.
inline Settings& settings() {
  static Settings in_force = settings_from_environment();
  return in_force;
}

}  // namespace simt
