// SPDX-License-Identifier: BSD-3-Clause
// Which tiles the engines visit: at most two intervals of key tiles for a tile of queries, one
// interval of query tiles for a tile of keys. No tile without a visible pair is ever visited.
#pragma once

#include "semantics/band.h"
#include "semantics/sequence.h"

namespace longattn {

// Tiles [begin, end); of these [full_begin, full_end) are visible whole and need no comparison.
struct TileInterval {
  int32_t begin;
  int32_t end;
  int32_t full_begin;
  int32_t full_end;
};

struct KeyTiles {
  TileInterval sinks;
  TileInterval band;  // begins at or after the end of sinks
};

// Query rows [begin, end).
struct RowRange {
  int32_t begin;
  int32_t end;
};

inline namespace LONGATTN_ISA {

LONGATTN_HOST_DEVICE int32_t tile_count(const TileInterval& interval) {
  return interval.end - interval.begin;
}

LONGATTN_HOST_DEVICE int32_t tile_count(const KeyTiles& tiles) {
  return tile_count(tiles.sinks) + tile_count(tiles.band);
}

LONGATTN_HOST_DEVICE bool is_full(const TileInterval& interval, int32_t tile) {
  return tile >= interval.full_begin && tile < interval.full_end;
}

// Tiles of `size` that touch rows [begin, end); whole inside [full_begin, full_end).
LONGATTN_HOST_DEVICE TileInterval tile_interval(int64_t begin, int64_t end, int64_t full_begin,
                                                int64_t full_end, int32_t size) {
  if (begin >= end) return {0, 0, 0, 0};
  const int64_t first = begin / size;
  const int64_t stop = ceil_divide(end, size);
  const int64_t full_first = clamp(ceil_divide(full_begin, size), first, stop);
  const int64_t full_stop = clamp(floor_divide(full_end, size), full_first, stop);
  return {static_cast<int32_t>(first), static_cast<int32_t>(stop),
          static_cast<int32_t>(full_first), static_cast<int32_t>(full_stop)};
}

LONGATTN_HOST_DEVICE TileInterval without_tiles_before(TileInterval interval, int32_t tile) {
  const auto raised = [&](int32_t value) {
    return static_cast<int32_t>(clamp(value, tile, larger(tile, interval.end)));
  };
  if (interval.begin == interval.end) return interval;
  return {raised(interval.begin), raised(interval.end), raised(interval.full_begin),
          raised(interval.full_end)};
}

// Do sinks and band form one range of keys?
LONGATTN_HOST_DEVICE bool is_joined(const RowBounds& row) { return row.sink_end == row.begin; }

LONGATTN_HOST_DEVICE bool has_separate_sinks(const RowBounds& row) {
  return row.floor < row.sink_end && !is_joined(row);
}

// Key tiles of the query rows whose first and last row have these bounds. Bounds are monotone, so
// the outermost rows bound the union, and what both of them see, every row between sees.
LONGATTN_HOST_DEVICE KeyTiles key_tiles(const RowBounds& first, const RowBounds& last,
                                        int32_t size) {
  const int64_t sink_end = has_separate_sinks(last)    ? last.sink_end
                           : has_separate_sinks(first) ? first.sink_end
                                                       : first.floor;
  const int64_t first_reach = is_joined(first) ? first.end : first.sink_end;
  const int64_t band_begin = is_joined(first) ? first.floor : first.begin;
  const int64_t full_begin = is_joined(last) ? last.floor : last.begin;
  KeyTiles tiles{tile_interval(first.floor, sink_end, last.floor, smaller(sink_end, first_reach),
                               size),
                 tile_interval(band_begin, last.end, full_begin, first.end, size)};
  tiles.band = without_tiles_before(tiles.band, tiles.sinks.end);
  return tiles;
}

LONGATTN_HOST_DEVICE RowBounds bounds_at(const HeadBand& band, const Sequence& sequence,
                                         int32_t row) {
  return row_bounds(band, sequence.diagonal + row, sequence.k_len);
}

// The first row in [0, q_len) for which `passed` holds (it stays true once true), or q_len.
template <class Predicate>
LONGATTN_HOST_DEVICE int32_t first_row(int32_t q_len, Predicate passed) {
  int32_t low = 0, high = q_len;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (passed(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Rows that see at least one of the keys [k_begin, k_end).
LONGATTN_HOST_DEVICE RowRange rows_that_see_any(const HeadBand& band, const Sequence& sequence,
                                                int32_t k_begin, int32_t k_end) {
  const auto at = [&](int32_t row) { return bounds_at(band, sequence, row); };
  const int32_t begin =
      first_row(sequence.q_len, [&](int32_t row) { return at(row).end > k_begin; });
  const int32_t end = first_row(sequence.q_len, [&](int32_t row) {
    const RowBounds bounds = at(row);
    const bool band_passed = bounds.begin >= k_end;
    const bool sinks_passed = k_begin >= band.sink_end || bounds.floor >= k_end ||
                              bounds.floor >= band.sink_end;
    return band_passed && sinks_passed;
  });
  return {begin, static_cast<int32_t>(larger(begin, end))};
}

// Rows that see all of the keys [k_begin, k_end).
LONGATTN_HOST_DEVICE RowRange rows_that_see_all(const HeadBand& band, const Sequence& sequence,
                                                int32_t k_begin, int32_t k_end) {
  const auto at = [&](int32_t row) { return bounds_at(band, sequence, row); };
  const int32_t begin =
      first_row(sequence.q_len, [&](int32_t row) { return at(row).end >= k_end; });
  const int32_t end = first_row(sequence.q_len, [&](int32_t row) {
    const RowBounds bounds = at(row);
    if (bounds.begin <= k_begin) return false;
    const bool sinks_reach = k_end <= band.sink_end || bounds.begin <= band.sink_end;
    return !(sinks_reach && bounds.floor <= k_begin);
  });
  return {begin, static_cast<int32_t>(larger(begin, end))};
}

// Query tiles that see any of the keys [k_begin, k_begin + k_size) of the sequence; the last tile
// of queries may be short, and counts as full if all of its rows see all the keys.
LONGATTN_HOST_DEVICE TileInterval query_tiles(const HeadBand& band, const Sequence& sequence,
                                              int32_t k_begin, int32_t k_size, int32_t q_size) {
  const int32_t k_end = k_begin + k_size;
  const int32_t k_visible_end = static_cast<int32_t>(smaller(k_end, sequence.k_len));
  const RowRange any = rows_that_see_any(band, sequence, k_begin, k_visible_end);
  const RowRange all = rows_that_see_all(band, sequence, k_begin, k_end);
  const int64_t full_end =
      all.end == sequence.q_len ? ceil_divide(all.end, q_size) * q_size : all.end;
  return tile_interval(any.begin, any.end, all.begin, full_end, q_size);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
