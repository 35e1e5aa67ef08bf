// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/query_slices.h"

#include <algorithm>

#include "cpu/tile_sizes.h"
#include "semantics/tiles.h"

namespace longattn::cpu {

namespace {

// The query heads of one kv head in one sequence.
struct Group {
  const Problem& problem;
  int64_t sequence;
  int32_t kv_head;

  int32_t first_head() const { return kv_head * heads(); }
  int32_t heads() const { return problem.q_heads / problem.kv_heads; }
};

// visit(sequence, first row's bounds, last row's bounds) for each head that has rows [begin, end).
template <class Visit>
void for_each_head(const Group& group, int64_t begin, int64_t end, Visit visit) {
  const Problem& problem = group.problem;
  for (int32_t i = 0; i < group.heads(); ++i) {
    const int32_t head = group.first_head() + i;
    const Sequence sequence =
        sequence_at(problem.layout, group.sequence, head, problem.q_heads);
    const auto stop = static_cast<int32_t>(std::min<int64_t>(end, sequence.q_len));
    if (begin >= stop) continue;
    const HeadBand& band = problem.bands->bands[problem.bands->band_of_head[head]];
    visit(sequence, bounds_at(band, sequence, static_cast<int32_t>(begin)),
          bounds_at(band, sequence, stop - 1));
  }
}

// Tiles of keys that a tile of queries visits, and one more for what each tile costs.
int64_t work_of_tile(const Group& group, int64_t row) {
  int64_t work = 0;
  for_each_head(group, row, row + kQueryTile,
                [&](const Sequence&, const RowBounds& first, const RowBounds& last) {
                  work += 1 + tile_count(key_tiles(first, last, kKeyTile));
                });
  return work;
}

void include(KeyRows& rows, const Sequence& sequence, const TileInterval& tiles) {
  const int64_t begin = static_cast<int64_t>(tiles.begin) * kKeyTile;
  const int64_t end = std::min<int64_t>(static_cast<int64_t>(tiles.end) * kKeyTile,
                                        sequence.k_len);
  if (begin >= end) return;
  const KeyRows further{sequence.k_row + begin * sequence.row_step,
                        sequence.k_row + (end - 1) * sequence.row_step + 1};
  rows = rows.size() == 0 ? further
                          : KeyRows{std::min(rows.begin, further.begin),
                                    std::max(rows.end, further.end)};
}

SeenKeys keys_seen_by(const Group& group, int64_t begin, int64_t end) {
  SeenKeys seen{};
  for_each_head(group, begin, end,
                [&](const Sequence& sequence, const RowBounds& first, const RowBounds& last) {
                  const KeyTiles tiles = key_tiles(first, last, kKeyTile);
                  include(seen.sinks, sequence, tiles.sinks);
                  include(seen.band, sequence, tiles.band);
                });
  if (seen.sinks.size() == 0) return seen;
  if (seen.band.size() == 0) return {{}, seen.sinks};
  if (seen.sinks.end < seen.band.begin) return seen;
  return {{}, {std::min(seen.sinks.begin, seen.band.begin),
               std::max(seen.sinks.end, seen.band.end)}};
}

int64_t rows_of(const Group& group) {
  int64_t rows = 0;
  for (int32_t i = 0; i < group.heads(); ++i) {
    rows = std::max<int64_t>(rows, sequence_at(group.problem.layout, group.sequence,
                                               group.first_head() + i, group.problem.q_heads)
                                       .q_len);
  }
  return rows;
}

void cut(const Group& group, int64_t slices, std::vector<QuerySlice>& found) {
  const int64_t rows = rows_of(group);
  std::vector<int64_t> work{0};  // of all tiles before
  for (int64_t row = 0; row < rows; row += kQueryTile) {
    work.push_back(work.back() + work_of_tile(group, row));
  }
  int64_t begin = 0;
  for (int64_t slice = 1; slice <= slices; ++slice) {
    const auto border =
        std::lower_bound(work.begin(), work.end(), ceil_divide(work.back() * slice, slices));
    const int64_t end = std::min<int64_t>((border - work.begin()) * kQueryTile, rows);
    found.push_back({group.sequence, group.kv_head, static_cast<int32_t>(begin),
                     static_cast<int32_t>(end), keys_seen_by(group, begin, end), false, 0});
    begin = end;
  }
}

void send_one_home(std::vector<QuerySlice>& slices, int64_t per_head) {
  for (auto first = slices.begin(); first != slices.end(); first += per_head) {
    std::max_element(first, first + per_head, [](const QuerySlice& a, const QuerySlice& b) {
      return a.keys.size() < b.keys.size();
    })->at_home = true;
  }
}

void place(std::vector<QuerySlice>& slices) {
  int64_t rows = 0;
  for (QuerySlice& slice : slices) {
    slice.place = rows;
    rows += slice.own_rows();
  }
}

}  // namespace

int64_t slices_of(const Problem& problem) {
  constexpr int64_t kWantedItems = 8;  // enough for a desktop's cores
  constexpr int64_t kMaxSlices = 4;    // each may cost one more dk and dv
  constexpr int64_t kTilesOfSlice = 4;
  const SequenceLayout& layout = problem.layout;
  const int64_t items = std::max<int64_t>(sequences_of(layout) * problem.kv_heads, 1);
  const int64_t tiles = ceil_divide(longest_q_len(layout), kQueryTile);
  const int64_t slices = std::min(ceil_divide(kWantedItems, items), kMaxSlices);
  return std::clamp<int64_t>(slices, 1, std::max<int64_t>(tiles / kTilesOfSlice, 1));
}

std::vector<QuerySlice> query_slices(const BackwardProblem& problem) {
  const int64_t slices = slices_of(problem);
  std::vector<QuerySlice> found;
  for (int64_t sequence = 0; sequence < sequences_of(problem.layout); ++sequence) {
    for (int32_t kv_head = 0; kv_head < problem.kv_heads; ++kv_head) {
      cut({problem, sequence, kv_head}, slices, found);
    }
  }
  if (!problem.writes) send_one_home(found, slices);
  place(found);
  return found;
}

}  // namespace longattn::cpu
