// SPDX-License-Identifier: BSD-3-Clause
// The CUDA engine: launches kernels on a stream, without waiting and without reading anything back.
// Plain C++: sources that include it need no CUDA header.
#pragma once

#include <cstdint>

#include "semantics/element_type.h"
#include "semantics/problem.h"

namespace longattn::cuda {

inline constexpr int kMaxHeadDim = 128;

void forward(const ForwardProblem& problem, const BandTable& bands, ElementType type,
             void* stream);

void row_dot(const RowDotProblem& problem, ElementType type, void* stream);

// See backward/parameters.h on the workspace.
BackwardSizes backward_sizes(const Problem& problem, const BandTable& bands);

// Adds to dq, dk and dv, bit by bit the same in every run.
void backward(const BackwardProblem& problem, const BandTable& bands, ElementType type,
              void* stream);

}  // namespace longattn::cuda
