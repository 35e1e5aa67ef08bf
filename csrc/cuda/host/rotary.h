// SPDX-License-Identifier: BSD-3-Clause
// The rotary pre-pass on a GPU: launches on a stream, without waiting and without reading back.
// Plain C++: sources that include it need no CUDA header.
#pragma once

#include "semantics/element_type.h"
#include "semantics/rotary.h"

namespace longattn::cuda {

void rotate(const RotaryProblem& problem, ElementType type, void* stream);

// Bit by bit the same in every run. The workspace holds rotate_backward_workspace(problem) floats.
void rotate_backward(const RotaryProblem& problem, ElementType type, void* stream);
int64_t rotate_backward_workspace(const RotaryProblem& problem);

}  // namespace longattn::cuda
