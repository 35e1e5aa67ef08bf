// SPDX-License-Identifier: BSD-3-Clause
#include "api/rotary_call.h"

#include <stdexcept>
#include <string>

#include "api/argument_pack.h"

namespace longattn::api {

namespace {

class NumberPack {
 public:
  explicit NumberPack(const Numbers& values) : values_(values) {}

  double number() {
    if (next_ >= values_.size()) throw std::invalid_argument("the pack of numbers is too short");
    return values_[next_++];
  }

  void expect_end() const {
    if (next_ != values_.size()) throw std::invalid_argument("the pack of numbers is too long");
  }

 private:
  const Numbers& values_;
  size_t next_ = 0;
};

void read_side(ArgumentPack& pack, NumberPack& numbers, int32_t map_count, RotarySide& side) {
  side.input = pack.tensor();
  for (int m = 0; m < map_count; ++m) side.rotated[m] = pack.tensor();
  side.gradient = pack.tensor();
  side.positions = {pack.pointer<const void>(), pack.integer(), pack.integer(), pack.integer(),
                    pack.integer() != 0};
  side.bias = pack.pointer<const void>();
  side.bias_gradient = pack.pointer<void>();
  side.rows = pack.integer();
  side.heads = pack.small();
  side.normalized = pack.integer() != 0;
  side.scale = {numbers.number(), numbers.number(), pack.integer() != 0};
  for (int m = 0; m < map_count; ++m) {
    side.maps[m] = {numbers.number(), pack.integer(), numbers.number(), pack.integer() != 0};
  }
}

}  // namespace

RotaryCall read_rotary(const Integers& integers, const Numbers& values) {
  ArgumentPack pack(integers);
  NumberPack numbers(values);
  RotaryCall call{};
  call.type = pack.element_type();
  call.executor = {pack.small(), pack.small(), pack.pointer<void>()};
  RotaryProblem& problem = call.problem;
  problem.batch = pack.integer();
  problem.head_dim = pack.small();
  problem.rotary_dim = pack.small();
  problem.map_count = pack.small();
  problem.interleaved = pack.integer() != 0;
  problem.turns_high = pack.pointer<const double>();
  problem.turns_low = pack.pointer<const double>();
  problem.growth = pack.pointer<const double>();
  problem.attention_factor = numbers.number();
  problem.centre = numbers.number();
  if (problem.map_count < 1 || problem.map_count > kMaxRotaryMaps ||
      problem.head_dim > kMaxRotaryDim || problem.rotary_dim > problem.head_dim) {
    throw std::invalid_argument(
        "a rotation takes 1 to " + std::to_string(kMaxRotaryMaps) + " maps and head_dim up to " +
        std::to_string(kMaxRotaryDim) + ", of which rotary_dim is a part; got " +
        std::to_string(problem.map_count) + ", " + std::to_string(problem.head_dim) + " and " +
        std::to_string(problem.rotary_dim));
  }
  read_side(pack, numbers, problem.map_count, problem.queries);
  read_side(pack, numbers, problem.map_count, problem.keys);
  problem.queries.growth_sign = 1.0;
  problem.keys.growth_sign = -1.0;
  problem.workspace = pack.pointer<void>();
  pack.expect_end();
  numbers.expect_end();
  return call;
}

}  // namespace longattn::api
