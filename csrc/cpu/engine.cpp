// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/engine.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"
#include "cpu/work.h"

namespace longattn::cpu {

namespace {

// One tile of queries, and all tiles of its sequence: tiles[first] ... tiles[first + count - 1].
struct TileOfSequence {
  int64_t sequence;
  int32_t first_row;
  int64_t first;
  int64_t count;
};

int64_t rows_of(const SequenceLayout& layout, int64_t sequence) {
  return layout.split == Split::kPacked ? sequence_at(layout, sequence, 0, 1).q_len
                                        : longest_q_len(layout);
}

// Later tiles see more keys under a causal mask: the longest work of a sequence starts first, and
// the longest sequence. Rows are counted by the longest that a sequence can be; a kernel call finds
// its own end.
std::vector<TileOfSequence> query_tiles_of(const SequenceLayout& layout) {
  std::vector<int64_t> sequences(sequences_of(layout));
  std::iota(sequences.begin(), sequences.end(), 0);
  if (layout.split == Split::kPacked) {
    std::stable_sort(sequences.begin(), sequences.end(), [&](int64_t a, int64_t b) {
      return rows_of(layout, a) > rows_of(layout, b);
    });
  }
  std::vector<TileOfSequence> tiles;
  for (const int64_t sequence : sequences) {
    const auto first = static_cast<int64_t>(tiles.size());
    const int64_t count = ceil_divide(rows_of(layout, sequence), kQueryTile);
    for (int64_t tile = count - 1; tile >= 0; --tile) {
      tiles.push_back({sequence, static_cast<int32_t>(tile * kQueryTile), first, count});
    }
  }
  return tiles;
}

struct Item {
  const TileOfSequence& tile;
  int32_t head;
};

// All tiles of a sequence that read the same keys and values are neighbours: those stay in the
// cache. With one kv head after the other for each tile they would be read from memory every time.
Item item_at(const std::vector<TileOfSequence>& tiles, const Problem& problem, int64_t index) {
  const TileOfSequence& any = tiles[index / problem.q_heads];
  const int32_t group = problem.q_heads / problem.kv_heads;
  const int64_t within = index - any.first * problem.q_heads;
  const int64_t kv_head = within / (any.count * group), rest = within % (any.count * group);
  return {tiles[any.first + rest / group], static_cast<int32_t>(kv_head * group + rest % group)};
}

}  // namespace

void forward(const ForwardProblem& problem, ElementType type, int threads) {
  const ForwardKernel kernel = kernels_for(type).forward;
  const std::vector<TileOfSequence> tiles = query_tiles_of(problem.layout);
  for_each_item(static_cast<int64_t>(tiles.size()) * problem.q_heads,
                threads_for(problem, threads), [&](int64_t index, void* scratch) {
                  const auto [tile, head] = item_at(tiles, problem, index);
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
