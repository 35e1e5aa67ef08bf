// SPDX-License-Identifier: BSD-3-Clause
#include "machine/settings.h"

#include <cstdlib>
#include <stdexcept>

namespace simt {
namespace {

std::string variable(const char* name, const char* fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

uint64_t seed_from(const std::string& text) {
  if (text.find_first_not_of("0123456789") != std::string::npos || text.size() > 19) {
    throw std::runtime_error("SIMT_SEED is '" + text +
                             "'; it takes a number of at most 19 digits.");
  }
  return std::strtoull(text.c_str(), nullptr, 10);
}

bool switch_from(const char* name, const std::string& text) {
  if (text == "on" || text == "off") return text == "on";
  throw std::runtime_error(std::string(name) + " is '" + text + "'; it takes on or off.");
}

}  // namespace

Order order_named(const std::string& name) {
  if (name == "round_robin") return Order::kRoundRobin;
  if (name == "forward") return Order::kForward;
  if (name == "reverse") return Order::kReverse;
  if (name == "random") return Order::kRandom;
  throw std::runtime_error("The order of the emulator is '" + name +
                           "'; it takes round_robin, forward, reverse or random.");
}

Async async_named(const std::string& name) {
  if (name == "lazy") return Async::kLazy;
  if (name == "eager") return Async::kEager;
  if (name == "random") return Async::kRandom;
  throw std::runtime_error("The asynchrony of the emulator is '" + name +
                           "'; it takes lazy, eager or random.");
}

Settings settings_from_environment() {
  Settings found;
  found.order = order_named(variable("SIMT_ORDER", "round_robin"));
  found.async = async_named(variable("SIMT_ASYNC", "lazy"));
  found.races = switch_from("SIMT_RACES", variable("SIMT_RACES", "on"));
  found.seed = seed_from(variable("SIMT_SEED", "1"));
  return found;
}

}  // namespace simt
