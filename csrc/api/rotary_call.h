// SPDX-License-Identifier: BSD-3-Clause
// A call of the rotary pre-pass, read from the packs that longattn/rotary/engine.py writes.
#pragma once

#include <vector>

#include "api/calls.h"
#include "semantics/rotary.h"

namespace longattn::api {

using Numbers = std::vector<double>;

struct RotaryCall {
  ElementType type;
  Executor executor;
  RotaryProblem problem;
};

RotaryCall read_rotary(const Integers& pack, const Numbers& numbers);

}  // namespace longattn::api
