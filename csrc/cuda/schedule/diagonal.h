// SPDX-License-Identifier: BSD-3-Clause
// The walk along a diagonal of tiles, which gathers all pairs of a few distances: diagonal b meets
// each tile of queries with the keys that are b tiles behind it. Distances are counted in steps
// here, as row - key, the query's row being that of the key at its position.
#pragma once

#include "semantics/tiles.h"

namespace longattn::cuda {

// Numbers begin, begin + 1, ... before end.
struct Numbers {
  int64_t begin;
  int64_t end;
};

// Whether the pairs of a tile are visible: any of them, all of them.
struct Coverage {
  bool any;
  bool all;
};

// Of the pairs of a tile on a diagonal.
LONGATTN_HOST_DEVICE Numbers distances_on(int64_t diagonal, int32_t tile) {
  return {tile * diagonal - (tile - 1), tile * diagonal + tile};
}

// Diagonals that distances first .. last lie on.
LONGATTN_HOST_DEVICE Numbers diagonals_of(int64_t first, int64_t last, int32_t tile) {
  return {floor_divide(first, tile), ceil_divide(last, tile) + 1};
}

// Keys beyond this end are seen by no row whose distance is in [low, high]: a bound that costs
// little, and spares diagonals outside the band a look at their tiles.
LONGATTN_HOST_DEVICE int64_t end_of_keys_at(const HeadBand& band, int64_t low, int64_t high,
                                            int64_t k_len) {
  int64_t end = k_len;
  for (int i = 0; i < band.term_count; ++i) {
    const BandTerm& term = band.terms[i];
    if (term.kind == TermKind::kDiagonal) {
      if (term.a != kUnbounded && low > term.a) return 0;
      if (term.b != kUnbounded && high < -static_cast<int64_t>(term.b)) return 0;
    }
    if (term.kind == TermKind::kGroups || term.kind == TermKind::kRecentGroups) {
      const int64_t reach = int64_t{term.b} / term.a * term.a;  // of the groups back
      const int64_t nearest = term.kind == TermKind::kGroups ? reach - term.a : -int64_t{term.a};
      if (low >= reach + term.a || high <= nearest) return 0;
    }
    if (term.kind == TermKind::kPrefix && high < 0) end = smaller(end, term.a);
    if (term.kind == TermKind::kLeading) end = smaller(end, term.a);
  }
  if (band.soft_left != kUnbounded && low > band.soft_left) end = smaller(end, band.sink_end);
  return end;
}

// The first key of the tile that lies beside queries [row, row + tile) on a diagonal, of any sign.
LONGATTN_HOST_DEVICE int64_t first_key_beside(const Sequence& sequence, int64_t diagonal,
                                              int64_t row, int32_t tile) {
  return sequence.diagonal + row - diagonal * tile;
}

// Tiles of queries that have a key of [0, end) beside them.
LONGATTN_HOST_DEVICE Numbers tiles_beside_keys(const Sequence& sequence, int64_t diagonal,
                                               int64_t end, int32_t tile) {
  const int64_t first_key = first_key_beside(sequence, diagonal, 0, tile);
  const int64_t begin = larger(floor_divide(-first_key, tile), 0);
  const int64_t stop =
      smaller(ceil_divide(sequence.q_len, tile), ceil_divide(end - first_key, tile));
  return {begin, larger(begin, end > 0 ? stop : 0)};
}

LONGATTN_HOST_DEVICE RowBounds shifted(const RowBounds& row, int32_t keys) {
  return {row.floor + keys, row.sink_end + keys, row.begin + keys, row.end + keys};
}

// Of keys [first_key, first_key + tile) and the rows whose first and last have these bounds.
// Tiles begin at multiples of their size in key_tiles: everything is shifted until this one does.
LONGATTN_HOST_DEVICE Coverage coverage(const RowBounds& first, const RowBounds& last,
                                       int64_t first_key, int32_t tile) {
  const int64_t shift = (floor_divide(first_key, tile) + 1) * tile - first_key;
  const KeyTiles keys = key_tiles(shifted(first, static_cast<int32_t>(shift)),
                                  shifted(last, static_cast<int32_t>(shift)), tile);
  const auto index = static_cast<int32_t>((first_key + shift) / tile);
  const auto holds = [&](const TileInterval& interval) {
    return index >= interval.begin && index < interval.end;
  };
  return {holds(keys.sinks) || holds(keys.band),
          is_full(keys.sinks, index) || is_full(keys.band, index)};
}

}  // namespace longattn::cuda
