// SPDX-License-Identifier: BSD-3-Clause
// What a forward kernel is given, by value: the bands travel along, nothing is read from the host.
#pragma once

#include "semantics/problem.h"

namespace longattn::cuda {

struct ForwardParameters {
  ForwardProblem problem;  // its `bands` pointer is not used here
  BandTable bands;
  float scale;  // of scores, into log2 units
};

}  // namespace longattn::cuda
