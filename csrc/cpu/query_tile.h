// SPDX-License-Identifier: BSD-3-Clause
// What forward and backward know of a tile of queries: its rows, its bounds, its key tiles.
#pragma once

#include <algorithm>

#include "cpu/operands/rows.h"
#include "cpu/tile_sizes.h"
#include "semantics/tiles.h"

namespace longattn::inline LONGATTN_ISA {

// Keys [begin, end) of the sequence; `full` if every row of the tile sees all of them.
struct KeyRange {
  int begin;
  int end;
  bool full;

  int count() const { return end - begin; }
};

struct QueryTile {
  const HeadBand* band;
  Sequence sequence;
  int32_t head;
  int first_row;
  int count;
  RowBounds bounds[kQueryTile];  // rows beyond count see nothing
  KeyTiles tiles;
};

inline QueryTile query_tile(const Problem& problem, const Sequence& sequence, int32_t head,
                            int first_row) {
  QueryTile tile;
  tile.band = &problem.bands->bands[problem.bands->band_of_head[head]];
  tile.sequence = sequence;
  tile.head = head;
  tile.first_row = first_row;
  tile.count = std::min(kQueryTile, sequence.q_len - first_row);
  for (int row = 0; row < kQueryTile; ++row) {
    tile.bounds[row] = row < tile.count ? bounds_at(*tile.band, sequence, first_row + row)
                                        : RowBounds{0, 0, 0, 0};
  }
  tile.tiles = key_tiles(tile.bounds[0], tile.bounds[tile.count - 1], kKeyTile);
  return tile;
}

// Calls visit(KeyRange) for each key tile in order. Keys that no row of the query tile sees are cut
// off at both ends: they are not even loaded, so whatever lies there (NaN included) cannot matter.
template <class Visit>
void for_each_key_range(const QueryTile& tile, Visit visit) {
  const RowBounds& first = tile.bounds[0];
  const RowBounds& last = tile.bounds[tile.count - 1];
  const bool apart = !is_joined(first);  // sinks and band leave a gap
  for (int32_t i = tile.tiles.sinks.begin; i < tile.tiles.sinks.end; ++i) {
    const int tile_end = (i + 1) * kKeyTile;
    const int visible_end = apart && first.begin >= tile_end ? first.sink_end : last.end;
    visit(KeyRange{std::max(first.floor, i * kKeyTile), std::min(visible_end, tile_end),
                   is_full(tile.tiles.sinks, i)});
  }
  for (int32_t i = tile.tiles.band.begin; i < tile.tiles.band.end; ++i) {
    visit(KeyRange{std::max(apart ? first.begin : first.floor, i * kKeyTile),
                   std::min(last.end, (i + 1) * kKeyTile), is_full(tile.tiles.band, i)});
  }
}

template <class Element>
Rows<Element> query_rows(const TensorView& view, const QueryTile& tile, int dim) {
  const Sequence& sequence = tile.sequence;
  const int64_t row = sequence.q_row + tile.first_row * sequence.row_step;
  return {row_pointer<Element>(view, sequence.batch, row, tile.head),
          static_cast<ptrdiff_t>(view.row_stride * sequence.row_step), tile.count, dim};
}

template <class Element>
Rows<Element> key_rows(const TensorView& view, const Sequence& sequence, int32_t kv_head,
                       const KeyRange& keys, int dim) {
  const int64_t row = sequence.k_row + keys.begin * sequence.row_step;
  return {row_pointer<Element>(view, sequence.batch, row, kv_head),
          static_cast<ptrdiff_t>(view.row_stride * sequence.row_step), keys.count(), dim};
}

}  // namespace longattn::inline LONGATTN_ISA
