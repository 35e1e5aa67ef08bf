// SPDX-License-Identifier: BSD-3-Clause
// A block's tile of queries. One thread finds it; it is in shared memory, for registers are short.
#pragma once

#include <ptx/barrier.h>

#include "cuda/schedule/key_tile_list.h"
#include "cuda/schedule/work.h"
#include "semantics/problem.h"

namespace longattn::cuda {

struct QueryTile {
  Sequence sequence;
  KeyTileList keys;  // that any of its rows sees
  int32_t head;
  int32_t first_row;

  LONGATTN_DEVICE bool exists() const { return first_row < sequence.q_len; }

  // Row `row` of the tile; rows beyond the sequence see nothing.
  LONGATTN_DEVICE RowBounds bounds_of(const HeadBand& band, int row) const {
    if (first_row + row >= sequence.q_len) return {0, 0, 0, 0};
    return bounds_at(band, sequence, first_row + row);
  }
};

template <int kRows, int kKeys>
LONGATTN_DEVICE void find_query_tile(QueryTile& tile, const Problem& problem,
                                     const BandTable& bands, int64_t block) {
  if (threadIdx.x == 0) {
    const Work work = work_at(problem.layout, tiled_queries(problem.layout, kRows),
                              problem.q_heads, block, /*last_tile_first=*/true);
    const Sequence sequence =
        sequence_at(problem.layout, work.sequence, work.head, problem.q_heads);
    tile.sequence = sequence;
    tile.head = work.head;
    tile.first_row = work.first_row;
    if (tile.exists()) {
      const HeadBand& band = bands.bands[bands.band_of_head[work.head]];
      const int32_t last_row = smaller(tile.first_row + kRows, tile.sequence.q_len) - 1;
      tile.keys = KeyTileList(key_tiles(bounds_at(band, tile.sequence, tile.first_row),
                                        bounds_at(band, tile.sequence, last_row), kKeys),
                              kKeys);
    }
  }
  ptx::synchronize_block();  // every thread sees the tile
}

}  // namespace longattn::cuda
