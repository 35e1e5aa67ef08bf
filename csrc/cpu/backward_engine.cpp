// SPDX-License-Identifier: BSD-3-Clause
// The backward pass over a whole problem. One item owns dk and dv of one kv head of one sequence,
// so that its additions happen in one order. Where that gives too few items for the cores, queries
// are cut into slices: one of them adds to dk and dv, the others have memory of their own, which is
// added in a fixed order at the end. Gradients that are written and not added to are summed up in
// memory of one head, where rows are neighbours, and rounded once.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "cpu/engine.h"
#include "cpu/parallel.h"
#include "cpu/query_slices.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"
#include "cpu/work.h"
#include "cpu/workspace_slots.h"

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
void run_rows(const BackwardProblem& problem, const KeyGradients& gradients, const Kernels& kernels,
              int64_t index, int32_t kv_head, int64_t begin, int64_t end, void* scratch) {
  const int32_t heads = problem.q_heads / problem.kv_heads;
  for (int32_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
    const Sequence sequence = sequence_at(problem.layout, index, head, problem.q_heads);
    for (int64_t row = begin; row < std::min<int64_t>(end, sequence.q_len); row += kQueryTile) {
      count_visits(
          kernels.backward(problem, gradients, sequence, head, static_cast<int32_t>(row), scratch));
    }
  }
}

// Numbers of the workspace for a row of keys of one kv head.
int64_t row_size(const Problem& problem) { return problem.head_dim + problem.value_dim; }

KeyGradients in_the_tensors(const BackwardProblem& problem) {
  return {problem.dk, problem.dv, {{}, {0, problem.layout.kv_len}}};
}

// dk and dv of one kv head and these rows, one after another.
template <class Real>
KeyGradients in_memory(const Problem& problem, const SeenKeys& keys, Real* memory) {
  Real* const dv = memory + keys.size() * problem.head_dim;
  return {{memory, 0, problem.head_dim, 0}, {dv, 0, problem.value_dim, 0}, keys};
}

// Rows among which all keys of a sequence are. Those of a dilated one lie apart.
KeyRows rows_of_keys(const Problem& problem, const Sequence& sequence) {
  if (problem.layout.split == Split::kDilated) return {0, problem.layout.kv_len};
  return {sequence.k_row, sequence.k_row + sequence.k_len};
}

int64_t most_keys_of_a_sequence(const Problem& problem) {
  if (problem.layout.split != Split::kPacked) return problem.layout.kv_len;
  int64_t most = 0;
  for (int64_t index = 0; index < sequences_of(problem.layout); ++index) {
    most = std::max<int64_t>(most, sequence_at(problem.layout, index, 0, problem.q_heads).k_len);
  }
  return most;
}

// Sums up dk and dv of a sequence and a kv head in `memory`, and writes them.
template <class Real>
void write_sequence(const BackwardProblem& problem, const Kernels& kernels, int64_t index,
                    int32_t kv_head, Real* memory, void* scratch) {
  const Sequence sequence = sequence_at(problem.layout, index, 0, problem.q_heads);
  const SeenKeys keys{{}, rows_of_keys(problem, sequence)};
  std::fill_n(memory, keys.size() * row_size(problem), Real(0));
  const KeyGradients sums = in_memory(problem, keys, memory);
  run_rows(problem, sums, kernels, index, kv_head, 0, sequence.q_len, scratch);
  for (int64_t row = keys.band.begin; row < keys.band.end; ++row) {
    const int64_t place = keys.place(row);
    kernels.write_row(row_pointer<Real>(sums.dk, 0, place, 0), problem.head_dim, problem.dk,
                      sequence.batch, row, kv_head);
    kernels.write_row(row_pointer<Real>(sums.dv, 0, place, 0), problem.value_dim, problem.dv,
                      sequence.batch, row, kv_head);
  }
}

template <class Real>
void backward_whole(const BackwardProblem& problem, const Kernels& kernels, int threads) {
  const int64_t sequences = sequences_of(problem.layout);
  const int64_t groups = problem.bias_gradient.data ? bias_groups_of(problem) : sequences;
  const KeyGradients gradients = in_the_tensors(problem);
  const int64_t slot = most_keys_of_a_sequence(problem) * row_size(problem);
  if (problem.writes && slot > 0) {  // more threads than it was made for have no room
    threads = static_cast<int>(std::min<int64_t>(threads, problem.workspace_size / slot));
    if (threads == 0) throw std::invalid_argument("the workspace is too small");
  }
  WorkspaceSlots<Real> slots(problem.workspace, slot, problem.writes ? threads : 0);
  for_each_item(groups * problem.kv_heads, threads, [&](int64_t item, void* scratch) {
    const int64_t group = item / problem.kv_heads;
    const auto kv_head = static_cast<int32_t>(item % problem.kv_heads);
    const BackwardProblem part = with_bias_share<Real>(problem, group);
    for (int64_t sequence = group; sequence < sequences; sequence += groups) {
      if (problem.writes) {
        const typename WorkspaceSlots<Real>::Slot own(slots);
        write_sequence(part, kernels, sequence, kv_head, own.memory(), scratch);
      } else {
        run_rows(part, gradients, kernels, sequence, kv_head, 0, longest_q_len(problem.layout),
                 scratch);
      }
    }
  });
}

template <class Real>
Real* own_memory(const BackwardProblem& problem, const QuerySlice& slice) {
  return static_cast<Real*>(problem.workspace) + slice.place * row_size(problem);
}

template <class Real>
KeyGradients in_own_memory(const BackwardProblem& problem, const QuerySlice& slice) {
  return in_memory(problem, slice.keys, own_memory<Real>(problem, slice));
}

template <class Real>
void run_slice(const BackwardProblem& problem, const QuerySlice& slice, const Kernels& kernels,
               void* scratch) {
  std::fill_n(own_memory<Real>(problem, slice), slice.own_rows() * row_size(problem), Real(0));
  const KeyGradients gradients =
      slice.at_home ? in_the_tensors(problem) : in_own_memory<Real>(problem, slice);
  run_rows(problem, gradients, kernels, slice.sequence, slice.kv_head, slice.begin, slice.end,
           scratch);
}

template <class Real>
void add_row(const TensorView& own, const QuerySlice& slice, int64_t row, int32_t dim, Real* sum) {
  const Real* const values = row_pointer<Real>(own, 0, slice.keys.place(row), 0);
  for (int32_t d = 0; d < dim; ++d) sum[d] += values[d];
}

// Adds one row of keys of all slices (of one sequence and kv head) to dk and dv, or writes it.
template <class Real>
void finish_row(const BackwardProblem& problem, const Kernels& kernels, const QuerySlice* slices,
                int64_t count, int64_t batch, int64_t row) {
  constexpr int kMostDims = 256;
  std::array<Real, 2 * kMostDims> sums;
  const int32_t kv_head = slices[0].kv_head;
  Real* dk = problem.writes ? sums.data() : row_pointer<Real>(problem.dk, batch, row, kv_head);
  Real* dv = problem.writes ? dk + kMostDims : row_pointer<Real>(problem.dv, batch, row, kv_head);
  if (problem.writes) sums.fill(Real(0));
  for (int64_t i = 0; i < count; ++i) {
    if (slices[i].at_home || !slices[i].keys.holds(row)) continue;
    const KeyGradients own = in_own_memory<Real>(problem, slices[i]);
    add_row(own.dk, slices[i], row, problem.head_dim, dk);
    add_row(own.dv, slices[i], row, problem.value_dim, dv);
  }
  if (!problem.writes) return;
  kernels.write_row(dk, problem.head_dim, problem.dk, batch, row, kv_head);
  kernels.write_row(dv, problem.value_dim, problem.dv, batch, row, kv_head);
}

template <class Real>
void backward_in_slices(const BackwardProblem& problem, const Kernels& kernels, int threads) {
  const std::vector<QuerySlice> slices = query_slices(problem);
  const int64_t per_head = slices_of(problem);
  for_each_item(slices.size(), threads, [&](int64_t i, void* scratch) {
    const int64_t share = slices[i].sequence * per_head + i % per_head;
    run_slice<Real>(with_bias_share<Real>(problem, share), slices[i], kernels, scratch);
  });
  constexpr int64_t kRows = 256;
  const int64_t chunks = ceil_divide(most_keys_of_a_sequence(problem), kRows);
  for_each_item(slices.size() / per_head * chunks, threads, [&](int64_t item, void*) {
    const QuerySlice* const first = &slices[item / chunks * per_head];
    const Sequence sequence = sequence_at(problem.layout, first->sequence, 0, problem.q_heads);
    const KeyRows rows = rows_of_keys(problem, sequence);
    const int64_t begin = rows.begin + item % chunks * kRows;
    const int64_t end = std::min(begin + kRows, rows.end);
    for (int64_t row = begin; row < end; ++row) {
      finish_row<Real>(problem, kernels, first, per_head, sequence.batch, row);
    }
  });
}

template <class Real>
void run(const BackwardProblem& problem, const Kernels& kernels, int threads) {
  if (slices_of(problem) == 1) {
    backward_whole<Real>(problem, kernels, threads);
  } else {
    backward_in_slices<Real>(problem, kernels, threads);
  }
}

}  // namespace

BackwardSizes backward_sizes(const BackwardProblem& problem, int threads) {
  const int64_t per_head = slices_of(problem);
  int64_t rows = 0;
  if (per_head > 1) {
    for (const QuerySlice& slice : query_slices(problem)) rows += slice.own_rows();
  } else if (problem.writes) {
    const int64_t items = sequences_of(problem.layout) * problem.kv_heads;
    rows = std::min<int64_t>(threads_for(problem, threads), items) *
           most_keys_of_a_sequence(problem);
  }
  return {rows * row_size(problem), bias_groups_of(problem) * per_head};
}

void backward(const BackwardProblem& problem, ElementType type, int threads) {
  const Kernels& kernels = kernels_for(type);
  if (type == ElementType::kFloat64) {
    run<double>(problem, kernels, threads_for(problem, threads));
  } else {
    run<float>(problem, kernels, threads_for(problem, threads));
  }
}

}  // namespace longattn::cpu
