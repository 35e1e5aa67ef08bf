// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/engine.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"

namespace longattn::cpu {

namespace {

std::atomic<int64_t> visited_tiles{0};

// A call with fewer multiplications than this is over before a second thread has started.
constexpr double kMultiplicationsPerThread = 4e6;

int threads_for(const Problem& problem, int threads) {
  const SequenceLayout& layout = problem.layout;
  const double rows = static_cast<double>(layout.q_len) *
                      (layout.split == Split::kPacked ? 1 : static_cast<double>(layout.batch));
  const double work = rows * problem.q_heads * static_cast<double>(layout.kv_len) *
                      (problem.head_dim + problem.value_dim);
  return static_cast<int>(std::clamp(work / kMultiplicationsPerThread, 1.0, 1.0 * threads));
}

struct TileOfSequence {
  int64_t sequence;
  int32_t first_row;
};

// Later tiles see more keys under a causal mask: the longest work starts first. Sequences are laid
// out by their longest possible length; a kernel call finds its own end.
std::vector<TileOfSequence> query_tiles_of(const SequenceLayout& layout) {
  const int64_t sequences = sequences_of(layout);
  std::vector<TileOfSequence> tiles;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    const int64_t rows = layout.split == Split::kPacked
                             ? sequence_at(layout, sequence, 0, 1).q_len
                             : longest_q_len(layout);
    for (int64_t row = 0; row < rows; row += kQueryTile) {
      tiles.push_back({sequence, static_cast<int32_t>(row)});
    }
  }
  std::stable_sort(tiles.begin(), tiles.end(), [](const auto& a, const auto& b) {
    return a.first_row > b.first_row;
  });
  return tiles;
}

}  // namespace

void forward(const ForwardProblem& problem, ElementType type, int threads) {
  const ForwardKernel kernel = kernels_for(type).forward;
  const std::vector<TileOfSequence> tiles = query_tiles_of(problem.layout);
  const int64_t heads = problem.q_heads;
  for_each_item(static_cast<int64_t>(tiles.size()) * heads, threads_for(problem, threads),
                [&](int64_t item, void* scratch) {
                  const TileOfSequence& tile = tiles[item / heads];
                  const auto head = static_cast<int32_t>(item % heads);
                  const Sequence sequence =
                      sequence_at(problem.layout, tile.sequence, head, problem.q_heads);
                  if (tile.first_row >= sequence.q_len) return;
                  visited_tiles += kernel(problem, sequence, head, tile.first_row, scratch);
                });
}

void backward(const BackwardProblem& problem, ElementType type, int threads) {
  const BackwardKernel kernel = kernels_for(type).backward;
  const int32_t group = problem.q_heads / problem.kv_heads;
  const int64_t per_sequence = static_cast<int64_t>(problem.kv_heads) * problem.slices;
  // One item owns a slice of dk and dv of one kv head: its additions happen in one fixed order.
  for_each_item(
      sequences_of(problem.layout) * per_sequence, threads_for(problem, threads),
      [&](int64_t item, void* scratch) {
        const auto slice = static_cast<int32_t>(item % problem.slices);
        const auto kv_head = static_cast<int32_t>(item / problem.slices % problem.kv_heads);
        for (int32_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          const Sequence sequence =
              sequence_at(problem.layout, item / per_sequence, head, problem.q_heads);
          for (int64_t row = int64_t{slice} * kQueryTile; row < sequence.q_len;
               row += int64_t{problem.slices} * kQueryTile) {
            visited_tiles +=
                kernel(problem, sequence, head, static_cast<int32_t>(row), slice, scratch);
          }
        }
      });
}

void row_dot(const RowDotProblem& problem, ElementType type, int threads) {
  constexpr int64_t kRows = 1024;
  const RowDotKernel kernel = kernels_for(type).row_dot;
  const int64_t chunks = ceil_divide(problem.q_len, kRows);
  const int64_t items = problem.batch * problem.q_heads * chunks;
  const int64_t useful_threads = std::clamp<int64_t>(items / 8, 1, threads);
  for_each_item(items, static_cast<int>(useful_threads), [&](int64_t item, void*) {
    const int64_t begin = item % chunks * kRows;
    const auto head = static_cast<int32_t>(item / chunks % problem.q_heads);
    kernel(problem, item / chunks / problem.q_heads, head, begin,
           std::min(begin + kRows, problem.q_len));
  });
}

int32_t backward_slices(const SequenceLayout& layout, int32_t kv_heads) {
  constexpr int64_t kWantedItems = 8;  // enough for a desktop's cores
  constexpr int64_t kMaxSlices = 4;    // each costs one more dk and dv in float32
  const int64_t items = std::max<int64_t>(sequences_of(layout) * kv_heads, 1);
  const int64_t tiles = ceil_divide(longest_q_len(layout), kQueryTile);
  const int64_t slices = std::min(ceil_divide(kWantedItems, items), kMaxSlices);
  return static_cast<int32_t>(std::clamp<int64_t>(slices, 1, std::max<int64_t>(tiles / 4, 1)));
}

int64_t take_visited_tiles() { return visited_tiles.exchange(0); }

}  // namespace longattn::cpu
