// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/rotary_engine.h"

#include <algorithm>

#include "cpu/parallel.h"
#include "cpu/select_isa.h"
#include "semantics/integers.h"

namespace longattn::cpu {

namespace {

// Gradients of biases are summed by slices of chunks, whose number depends on the problem alone, so
// that sums are always made in one order.
constexpr int64_t kMaxSlices = 64;

// Rows whose tables are made at once, for all heads; a thread's unit of work. Where the rows of a
// head are neighbours, the longer a run of them the better, as long as tables stay in the caches.
int64_t rows_of_chunk(const RotaryProblem& problem) {
  constexpr int64_t kFewRows = 16, kTableNumbers = 1 << 14;
  const auto rows_are_neighbours = [&](const RotarySide& side) {
    const TensorView& view = side.input.data ? side.input : side.gradient;
    return side.rows > 1 && view.row_stride < view.head_stride;
  };
  const int64_t fit = kTableNumbers / (problem.map_count * 2 * problem.rotary_dim);
  const bool long_runs = rows_are_neighbours(problem.queries) || rows_are_neighbours(problem.keys);
  return std::clamp<int64_t>(fit, 8, long_runs ? kMaxRotaryRows : kFewRows);
}

int64_t chunks_of_entry(const RotaryProblem& problem) {
  return ceil_divide(std::max(problem.queries.rows, problem.keys.rows), rows_of_chunk(problem));
}

int64_t slices_of(const RotaryProblem& problem) {
  return std::min(problem.batch * chunks_of_entry(problem), kMaxSlices);
}

int64_t bias_numbers(const RotaryProblem& problem) {
  return static_cast<int64_t>(total_heads(problem)) * problem.head_dim;
}

bool sums_biases(const RotaryProblem& problem) {
  return problem.queries.bias_gradient != nullptr || problem.keys.bias_gradient != nullptr;
}

// A thread costs as much as some 100 KB of work.
int useful_threads(const RotaryProblem& problem, int threads) {
  constexpr int64_t kNumbersOfThread = 1 << 16;
  const int64_t vectors =
      problem.queries.rows * problem.queries.heads + problem.keys.rows * problem.keys.heads;
  const int64_t numbers = problem.batch * vectors * problem.head_dim * problem.map_count;
  return static_cast<int>(std::clamp<int64_t>(numbers / kNumbersOfThread, 1, threads));
}

void run_chunk(const RotaryProblem& problem, RotaryKernel kernel, int64_t chunk, void* bias_sums,
               void* scratch) {
  const int64_t chunks = chunks_of_entry(problem), rows = rows_of_chunk(problem);
  const int64_t begin = chunk % chunks * rows;
  kernel(problem, chunk / chunks, begin, begin + rows, bias_sums, scratch);
}

void run_chunks(const RotaryProblem& problem, RotaryKernel kernel, int threads) {
  for_each_item(
      problem.batch * chunks_of_entry(problem), useful_threads(problem, threads),
      [&](int64_t chunk, void* scratch) { run_chunk(problem, kernel, chunk, nullptr, scratch); });
}

template <class Real>
void add_slices(const RotaryProblem& problem, int64_t offset, const RotarySide& side) {
  if (side.bias_gradient == nullptr) return;
  Real* const total = static_cast<Real*>(side.bias_gradient);
  const int64_t count = static_cast<int64_t>(side.heads) * problem.head_dim;
  std::fill_n(total, count, Real(0));
  for (int64_t slice = 0; slice < slices_of(problem); ++slice) {
    const Real* part =
        static_cast<const Real*>(problem.workspace) + slice * bias_numbers(problem) + offset;
    for (int64_t i = 0; i < count; ++i) total[i] += part[i];
  }
}

template <class Real>
void backward_in_slices(const RotaryProblem& problem, RotaryKernel kernel, int threads) {
  const int64_t chunks = problem.batch * chunks_of_entry(problem);
  const int64_t slices = slices_of(problem), numbers = bias_numbers(problem);
  for_each_item(slices, useful_threads(problem, threads), [&](int64_t slice, void* scratch) {
    Real* sums = static_cast<Real*>(problem.workspace) + slice * numbers;
    std::fill_n(sums, numbers, Real(0));
    const int64_t end = (slice + 1) * chunks / slices;
    for (int64_t chunk = slice * chunks / slices; chunk < end; ++chunk) {
      run_chunk(problem, kernel, chunk, sums, scratch);
    }
  });
  add_slices<Real>(problem, 0, problem.queries);
  add_slices<Real>(problem, numbers - int64_t{problem.keys.heads} * problem.head_dim, problem.keys);
}

}  // namespace

void rotate(const RotaryProblem& problem, ElementType type, int threads) {
  run_chunks(problem, kernels_for(type).rotate, threads);
}

int64_t rotate_backward_workspace(const RotaryProblem& problem) {
  return sums_biases(problem) ? slices_of(problem) * bias_numbers(problem) : 0;
}

void rotate_backward(const RotaryProblem& problem, ElementType type, int threads) {
  const RotaryKernel kernel = kernels_for(type).rotate_backward;
  if (!sums_biases(problem)) {
    run_chunks(problem, kernel, threads);
  } else if (type == ElementType::kFloat64) {
    backward_in_slices<double>(problem, kernel, threads);
  } else {
    backward_in_slices<float>(problem, kernel, threads);
  }
}

}  // namespace longattn::cpu
