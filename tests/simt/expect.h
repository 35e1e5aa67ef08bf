// SPDX-License-Identifier: BSD-3-Clause
// What the emulator's own tests share: expectations, and runs under every setting.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "machine/settings.h"

namespace simt {

inline int failures = 0;

inline void expect(const std::string& what, bool holds) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

template <class Value>
void expect_equal(const std::string& what, const Value& got, const Value& wanted) {
  if (got == wanted) return;
  std::printf("FAILED: %s: got %s, wanted %s\n", what.c_str(), std::to_string(got).c_str(),
              std::to_string(wanted).c_str());
  ++failures;
}

// What `run` throws; "" if it does not.
template <class Run>
std::string error_of(const Run& run) {
  try {
    run();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

// The error must hold all of the parts.
template <class Run>
void expect_error(const std::string& what, const std::vector<std::string>& parts, const Run& run) {
  const std::string error = error_of(run);
  for (const std::string& part : parts) {
    if (error.find(part) != std::string::npos) continue;
    std::printf("FAILED: %s: the error '%s' does not hold '%s'\n", what.c_str(), error.c_str(),
                part.c_str());
    ++failures;
  }
}

inline std::vector<Settings> every_setting() {
  std::vector<Settings> all;
  for (Async async : {Async::kLazy, Async::kEager, Async::kRandom}) {
    for (Order order : {Order::kRoundRobin, Order::kForward, Order::kReverse}) {
      all.push_back({.order = order, .async = async});
    }
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      all.push_back({.order = Order::kRandom, .async = async, .seed = seed});
    }
  }
  return all;
}

inline std::string named(const Settings& chosen) {
  const char* orders[] = {"round_robin", "forward", "reverse", "random"};
  const char* asyncs[] = {"lazy", "eager", "random"};
  return std::string(" [") + orders[static_cast<int>(chosen.order)] + ", " +
         asyncs[static_cast<int>(chosen.async)] + ", seed " + std::to_string(chosen.seed) + "]";
}

// Calls `run` with the name of the setting in force. Races are looked for if they were before.
template <class Run>
void under_every_setting(const Run& run) {
  const Settings before = settings();
  for (const Settings& chosen : every_setting()) {
    settings() = chosen;
    settings().races = before.races;
    run(named(chosen));
  }
  settings() = before;
}

inline int report() {
  std::printf("%d failures\n", failures);
  return failures != 0;
}

}  // namespace simt
