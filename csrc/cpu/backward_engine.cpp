// SPDX-License-Identifier: BSD-3-Clause
// The backward pass over a whole problem. One item owns dk and dv of one kv head of one sequence,
// so that its additions happen in one order. Where that gives too few items for the cores, queries
// are cut into slices: one of them adds to dk and dv, the others have memory of their own, which is
// added in a fixed order at the end.
#include <algorithm>
#include <vector>

#include "cpu/engine.h"
#include "cpu/parallel.h"
#include "cpu/query_slices.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"
#include "cpu/work.h"

namespace longattn::cpu {

namespace {

// Sequences whose bias gradients are summed up one after the other. As many as sequences where
// there are slices.
int64_t bias_groups_of(const Problem& problem) {
  constexpr int64_t kMaxGroups = 8;  // each costs one number for every head and distance
  return std::clamp<int64_t>(sequences_of(problem.layout), 1, kMaxGroups);
}

template <class Real>
BackwardProblem with_bias_share(BackwardProblem problem, int64_t share) {
  if (problem.bias_gradient.data) {
    problem.bias_gradient.data = static_cast<Real*>(problem.bias_gradient.data) +
                                 share * problem.q_heads * problem.bias_gradient.span;
  }
  return problem;
}

// Query rows [begin, end) of all heads of a kv head.
void run_rows(const BackwardProblem& problem, const KeyGradients& gradients, BackwardKernel kernel,
              int64_t index, int32_t kv_head, int64_t begin, int64_t end, void* scratch) {
  const int32_t heads = problem.q_heads / problem.kv_heads;
  for (int32_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
    const Sequence sequence = sequence_at(problem.layout, index, head, problem.q_heads);
    for (int64_t row = begin; row < std::min<int64_t>(end, sequence.q_len); row += kQueryTile) {
      count_visits(
          kernel(problem, gradients, sequence, head, static_cast<int32_t>(row), scratch));
    }
  }
}

KeyGradients in_the_tensors(const BackwardProblem& problem) {
  return {problem.dk, problem.dv, {{}, {0, problem.layout.kv_len}}};
}

template <class Real>
void backward_whole(const BackwardProblem& problem, BackwardKernel kernel, int threads) {
  const int64_t sequences = sequences_of(problem.layout);
  const int64_t groups = problem.bias_gradient.data ? bias_groups_of(problem) : sequences;
  const KeyGradients gradients = in_the_tensors(problem);
  for_each_item(groups * problem.kv_heads, threads, [&](int64_t item, void* scratch) {
    const int64_t group = item / problem.kv_heads;
    const auto kv_head = static_cast<int32_t>(item % problem.kv_heads);
    const BackwardProblem part = with_bias_share<Real>(problem, group);
    for (int64_t sequence = group; sequence < sequences; sequence += groups) {
      run_rows(part, gradients, kernel, sequence, kv_head, 0, longest_q_len(problem.layout),
               scratch);
    }
  });
}

// Numbers of the workspace for a row of keys of one kv head.
int64_t row_size(const Problem& problem) { return problem.head_dim + problem.value_dim; }

template <class Real>
Real* own_memory(const BackwardProblem& problem, const QuerySlice& slice) {
  return static_cast<Real*>(problem.workspace) + slice.place * row_size(problem);
}

// dk and dv of one kv head, rows one after another.
template <class Real>
KeyGradients in_own_memory(const BackwardProblem& problem, const QuerySlice& slice) {
  Real* const dk = own_memory<Real>(problem, slice);
  Real* const dv = dk + slice.own_rows() * problem.head_dim;
  return {{dk, 0, problem.head_dim, 0}, {dv, 0, problem.value_dim, 0}, slice.keys};
}

template <class Real>
void run_slice(const BackwardProblem& problem, const QuerySlice& slice, BackwardKernel kernel,
               void* scratch) {
  std::fill_n(own_memory<Real>(problem, slice), slice.own_rows() * row_size(problem), Real(0));
  const KeyGradients gradients =
      slice.at_home ? in_the_tensors(problem) : in_own_memory<Real>(problem, slice);
  run_rows(problem, gradients, kernel, slice.sequence, slice.kv_head, slice.begin, slice.end,
           scratch);
}

template <class Real>
void add_rows(const TensorView& total, const TensorView& own, const QuerySlice& slice,
              int64_t batch, KeyRows rows, int32_t dim) {
  for (const KeyRows& held : {slice.keys.sinks, slice.keys.band}) {
    const int64_t end = std::min(rows.end, held.end);
    for (int64_t row = std::max(rows.begin, held.begin); row < end; ++row) {
      Real* const sum = row_pointer<Real>(total, batch, row, slice.kv_head);
      const Real* const values = row_pointer<Real>(own, 0, slice.keys.place(row), 0);
      for (int32_t d = 0; d < dim; ++d) sum[d] += values[d];
    }
  }
}

// Brings home what these rows of the tensors have in the slice's own memory.
template <class Real>
void add_slice(const BackwardProblem& problem, const QuerySlice& slice, KeyRows rows) {
  const int64_t batch = sequence_at(problem.layout, slice.sequence, 0, problem.q_heads).batch;
  const KeyGradients own = in_own_memory<Real>(problem, slice);
  add_rows<Real>(problem.dk, own.dk, slice, batch, rows, problem.head_dim);
  add_rows<Real>(problem.dv, own.dv, slice, batch, rows, problem.value_dim);
}

template <class Real>
void backward_in_slices(const BackwardProblem& problem, BackwardKernel kernel, int threads) {
  const std::vector<QuerySlice> slices = query_slices(problem);
  const int64_t per_head = slices_of(problem);
  for_each_item(slices.size(), threads, [&](int64_t i, void* scratch) {
    const int64_t share = slices[i].sequence * per_head + i % per_head;
    run_slice<Real>(with_bias_share<Real>(problem, share), slices[i], kernel, scratch);
  });
  constexpr int64_t kRows = 256;
  const int64_t chunks = ceil_divide(problem.layout.kv_len, kRows);
  for_each_item(slices.size() / per_head * chunks, threads, [&](int64_t item, void*) {
    const QuerySlice* const first = &slices[item / chunks * per_head];
    const int64_t begin = item % chunks * kRows;
    for (const QuerySlice* slice = first; slice != first + per_head; ++slice) {
      if (!slice->at_home) add_slice<Real>(problem, *slice, {begin, begin + kRows});
    }
  });
}

template <class Real>
void run(const BackwardProblem& problem, BackwardKernel kernel, int threads) {
  if (slices_of(problem) == 1) {
    backward_whole<Real>(problem, kernel, threads);
  } else {
    backward_in_slices<Real>(problem, kernel, threads);
  }
}

}  // namespace

BackwardSizes backward_sizes(const Problem& problem) {
  const int64_t per_head = slices_of(problem);
  int64_t rows = 0;
  if (per_head > 1) {
    for (const QuerySlice& slice : query_slices(problem)) rows += slice.own_rows();
  }
  return {rows * row_size(problem), bias_groups_of(problem) * per_head};
}

void backward(const BackwardProblem& problem, ElementType type, int threads) {
  const BackwardKernel kernel = kernels_for(type).backward;
  if (type == ElementType::kFloat64) {
    run<double>(problem, kernel, threads_for(problem, threads));
  } else {
    run<float>(problem, kernel, threads_for(problem, threads));
  }
}

}  // namespace longattn::cpu
