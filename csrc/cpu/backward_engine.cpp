// SPDX-License-Identifier: BSD-3-Clause
// The backward pass over a whole problem. One item owns dk and dv of one kv head of one sequence,
// so that its additions happen in one order. Where that gives too few items for the cores, queries
// are cut into slices with a dk and dv of their own, added up in a fixed order at the end.
#include <algorithm>
#include <vector>

#include "cpu/engine.h"
#include "cpu/parallel.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"
#include "cpu/work.h"

namespace longattn::cpu {

namespace {

// dk, or dv: [batch, kv_len, kv_heads, dim].
struct Gradient {
  TensorView view;
  int64_t batch;
  int64_t rows;
  int64_t heads;
  int64_t dim;

  int64_t size() const { return batch * rows * heads * dim; }
};

int64_t tensor_batch(const SequenceLayout& layout) {
  return layout.split == Split::kPacked ? 1 : layout.batch;
}

Gradient key_gradient(const Problem& problem, const TensorView& view, int32_t dim) {
  return {view, tensor_batch(problem.layout), problem.layout.kv_len, problem.kv_heads, dim};
}

// Depends on the problem alone, never on the number of threads.
int64_t slices_of(const Problem& problem) {
  constexpr int64_t kWantedItems = 8;  // enough for a desktop's cores
  constexpr int64_t kMaxSlices = 4;    // each costs one more dk and dv
  constexpr int64_t kTilesOfSlice = 4;
  const SequenceLayout& layout = problem.layout;
  const int64_t items = std::max<int64_t>(sequences_of(layout) * problem.kv_heads, 1);
  const int64_t tiles = ceil_divide(longest_q_len(layout), kQueryTile);
  const int64_t slices = std::min(ceil_divide(kWantedItems, items), kMaxSlices);
  return std::clamp<int64_t>(slices, 1, std::max<int64_t>(tiles / kTilesOfSlice, 1));
}

// Sequences whose bias gradients are summed up one after the other.
int64_t bias_groups_of(const Problem& problem) {
  constexpr int64_t kMaxGroups = 8;  // each costs one number for every head and distance
  return std::clamp<int64_t>(sequences_of(problem.layout), 1, kMaxGroups);
}

// The same gradient in its own memory, contiguous.
template <class Real>
TensorView placed_at(const Gradient& gradient, Real* memory) {
  const int64_t row_stride = gradient.heads * gradient.dim;
  return {memory, gradient.rows * row_stride, row_stride, gradient.dim};
}

template <class Real>
void zero(Real* memory, int64_t size, int threads) {
  constexpr int64_t kChunk = 1 << 18;
  for_each_item(ceil_divide(size, kChunk), threads, [&](int64_t chunk, void*) {
    const int64_t begin = chunk * kChunk;
    std::fill_n(memory + begin, std::min(kChunk, size - begin), Real(0));
  });
}

template <class Real>
void add(const Gradient& total, const TensorView& share, int threads) {
  constexpr int64_t kRows = 256;
  const int64_t chunks = ceil_divide(total.rows, kRows);
  for_each_item(total.batch * chunks, threads, [&](int64_t item, void*) {
    const int64_t batch = item / chunks, begin = item % chunks * kRows;
    for (int64_t row = begin; row < std::min(begin + kRows, total.rows); ++row) {
      for (int64_t head = 0; head < total.heads; ++head) {
        Real* sum = row_pointer<Real>(total.view, batch, row, head);
        const Real* values = row_pointer<Real>(share, batch, row, head);
        for (int64_t d = 0; d < total.dim; ++d) sum[d] += values[d];
      }
    }
  });
}

template <class Real>
BackwardProblem with_bias_share(BackwardProblem problem, int64_t share) {
  if (problem.bias_gradient.data) {
    problem.bias_gradient.data = static_cast<Real*>(problem.bias_gradient.data) +
                                 share * problem.q_heads * problem.bias_gradient.span;
  }
  return problem;
}

void run_slice(const BackwardProblem& problem, BackwardKernel kernel, int64_t index,
               int32_t kv_head, int64_t slice, int64_t slices, void* scratch) {
  const int32_t heads = problem.q_heads / problem.kv_heads;
  for (int32_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
    const Sequence sequence = sequence_at(problem.layout, index, head, problem.q_heads);
    for (int64_t row = slice * kQueryTile; row < sequence.q_len; row += slices * kQueryTile) {
      count_visits(kernel(problem, sequence, head, static_cast<int32_t>(row), scratch));
    }
  }
}

template <class Real>
void backward_in_slices(const BackwardProblem& problem, BackwardKernel kernel, int threads) {
  const int64_t slices = slices_of(problem);
  const Gradient dk = key_gradient(problem, problem.dk, problem.head_dim);
  const Gradient dv = key_gradient(problem, problem.dv, problem.value_dim);
  std::vector<BackwardProblem> parts(slices, problem);
  Real* memory = static_cast<Real*>(problem.workspace);
  zero(memory, (slices - 1) * (dk.size() + dv.size()), threads);
  for (int64_t slice = 1; slice < slices; ++slice) {
    parts[slice].dk = placed_at(dk, memory);
    parts[slice].dv = placed_at(dv, memory + dk.size());
    memory += dk.size() + dv.size();
  }
  const int64_t sequences = sequences_of(problem.layout);
  const int64_t groups = problem.bias_gradient.data ? bias_groups_of(problem) : sequences;
  const int64_t per_group = problem.kv_heads * slices;
  for_each_item(groups * per_group, threads_for(problem, threads),
                [&](int64_t item, void* scratch) {
                  const int64_t group = item / per_group, slice = item % slices;
                  const auto kv_head = static_cast<int32_t>(item / slices % problem.kv_heads);
                  const BackwardProblem part =
                      with_bias_share<Real>(parts[slice], group * slices + slice);
                  for (int64_t sequence = group; sequence < sequences; sequence += groups) {
                    run_slice(part, kernel, sequence, kv_head, slice, slices, scratch);
                  }
                });
  for (int64_t slice = 1; slice < slices; ++slice) {
    add<Real>(dk, parts[slice].dk, threads);
    add<Real>(dv, parts[slice].dv, threads);
  }
}

}  // namespace

BackwardSizes backward_sizes(const Problem& problem) {
  const Gradient dk = key_gradient(problem, {}, problem.head_dim);
  const Gradient dv = key_gradient(problem, {}, problem.value_dim);
  const int64_t slices = slices_of(problem);
  return {(slices - 1) * (dk.size() + dv.size()), bias_groups_of(problem) * slices};
}

void backward(const BackwardProblem& problem, ElementType type, int threads) {
  const BackwardKernel kernel = kernels_for(type).backward;
  if (type == ElementType::kFloat64) {
    backward_in_slices<double>(problem, kernel, threads);
  } else {
    backward_in_slices<float>(problem, kernel, threads);
  }
}

}  // namespace longattn::cpu
