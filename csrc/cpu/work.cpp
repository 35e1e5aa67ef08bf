// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/work.h"

#include <algorithm>
#include <atomic>

#include "cpu/engine.h"

namespace longattn::cpu {

namespace {

// A call with fewer multiplications than this is over before a second thread has started.
constexpr double kMultiplicationsPerThread = 4e6;

std::atomic<int64_t> visited_tiles{0};

}  // namespace

int threads_for(const Problem& problem, int threads) {
  const SequenceLayout& layout = problem.layout;
  const double rows = static_cast<double>(layout.q_len) *
                      (layout.split == Split::kPacked ? 1 : static_cast<double>(layout.batch));
  const double work = rows * problem.q_heads * static_cast<double>(layout.kv_len) *
                      (problem.head_dim + problem.value_dim);
  return static_cast<int>(std::clamp(work / kMultiplicationsPerThread, 1.0, 1.0 * threads));
}

void count_visits(int64_t tiles) { visited_tiles += tiles; }

int64_t take_visited_tiles() { return visited_tiles.exchange(0); }

}  // namespace longattn::cpu
