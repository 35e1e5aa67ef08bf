// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/engine.h"

#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"
#include "cpu/work.h"

namespace longattn::cpu {

namespace {

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
                  count_visits(kernel(problem, sequence, head, tile.first_row, scratch));
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


}  // namespace longattn::cpu
