// SPDX-License-Identifier: BSD-3-Clause
// The walk along a diagonal of tiles, which gathers all pairs of a few distances: block b meets each
// tile of queries with the keys that are b tiles behind it. Distances are counted in steps here, as
// row - key, the query's row being that of the key at its position.
#pragma once

#include "semantics/tiles.h"

namespace longattn::cuda {

// Keys beyond this end are seen by no row whose distance is in [low, high].
LONGATTN_HOST_DEVICE int64_t end_of_keys_at(const HeadBand& band, int64_t low, int64_t high,
                                            int64_t k_len) {
  int64_t end = k_len;
  for (int i = 0; i < band.term_count; ++i) {
    const BandTerm& term = band.terms[i];
    if (term.kind == TermKind::kDiagonal) {
      if (term.a != kUnbounded && low > term.a) return 0;
      if (term.b != kUnbounded && high < -static_cast<int64_t>(term.b)) return 0;
    }
    if (term.kind == TermKind::kGroups && (low >= term.a || high <= -term.a)) return 0;
    if (term.kind == TermKind::kPrefix && high < 0) end = smaller(end, term.a);
    if (term.kind == TermKind::kLeading) end = smaller(end, term.a);
  }
  if (band.soft_left != kUnbounded && low > band.soft_left) end = smaller(end, band.sink_end);
  return end;
}

// Whether rows with these outermost bounds see any of the keys [begin, end).
LONGATTN_HOST_DEVICE bool any_is_seen(const RowBounds& first, const RowBounds& last, int64_t begin,
                                      int64_t end) {
  const bool band = begin < last.end && end > first.begin;
  const bool sinks = begin < last.sink_end && end > first.floor;
  return band || sinks;
}

// Blocks [begin, end) of the diagonals that `sequences` of a layout can have.
struct DiagonalRange {
  int64_t begin;
  int64_t end;
};

// `first` and `last` distance in steps. A tile pair of block b holds distances
// [tile * b - (tile - 1), tile * b + tile - 1].
LONGATTN_HOST_DEVICE DiagonalRange diagonal_range(int64_t first, int64_t last, int32_t tile) {
  return {ceil_divide(first - (tile - 1), tile), ceil_divide(last, tile) + 1};
}

}  // namespace longattn::cuda
