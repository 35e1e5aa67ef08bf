// SPDX-License-Identifier: BSD-3-Clause
// A call of an engine, read from the packs that longattn/native.py writes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "semantics/element_type.h"
#include "semantics/problem.h"

namespace longattn::api {

using Integers = std::vector<int64_t>;
using Scales = std::array<double, 2>;  // softmax_scale; softcap, 0: none

// Who does the work.
struct Executor {
  int threads;   // CPU
  int device;    // CUDA, like the next
  void* stream;  // cudaStream_t
};

// `bands` is what the problem's pointer points to: a call is not copied.
template <class ProblemType>
struct Call {
  ElementType type;
  Executor executor;
  ProblemType problem{};
  BandTable bands;

  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
};

struct RowDotCall {
  ElementType type;
  Executor executor;
  RowDotProblem problem;
};

void read_forward(const Integers& pack, const Integers& rules, const Scales& scales,
                  Call<ForwardProblem>& call);
void read_backward(const Integers& pack, const Integers& rules, const Scales& scales,
                   Call<BackwardProblem>& call);
RowDotCall read_row_dot(const Integers& pack);

// The part of a pack that forward and backward share, and `writes`.
void read_backward_sizes(const Integers& pack, const Integers& rules, const Scales& scales,
                         Call<BackwardProblem>& call);

}  // namespace longattn::api
