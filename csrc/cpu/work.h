// SPDX-License-Identifier: BSD-3-Clause
// How much work a problem is, and how much was done.
#pragma once

#include <cstdint>

#include "semantics/problem.h"

namespace longattn::cpu {

// As many of `threads` as have something to do.
int threads_for(const Problem& problem, int threads);

void count_visits(int64_t tiles);

}  // namespace longattn::cpu
