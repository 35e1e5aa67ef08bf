// SPDX-License-Identifier: BSD-3-Clause
// The rotary pre-pass on the CPU: shares rows between threads.
#pragma once

#include "semantics/element_type.h"
#include "semantics/rotary.h"

namespace longattn::cpu {

void rotate(const RotaryProblem& problem, ElementType type, int threads);

// The same bits for any number of threads. The workspace holds rotate_backward_workspace(problem)
// numbers of the accumulator's type.
void rotate_backward(const RotaryProblem& problem, ElementType type, int threads);
int64_t rotate_backward_workspace(const RotaryProblem& problem);

}  // namespace longattn::cpu
