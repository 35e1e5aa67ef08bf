// SPDX-License-Identifier: BSD-3-Clause
// Which keys and queries a block of the key gradient works on. Key tiles that hold sinks are seen
// by nearly every query: so that one of them does not outlast all other tiles, their queries are
// cut into slices, each a block of its own. A sequence's first slice adds to dk and dv itself, the
// others leave shares in a workspace, which are added up in a fixed order afterwards.
#pragma once

#include <limits>

#include "cuda/schedule/work.h"

namespace longattn::cuda {

struct SinkSlices {
  int32_t rows;     // sink rows of a sequence, rounded up to whole tiles; 0: nothing is sliced
  int32_t queries;  // of a slice
  int64_t blocks;   // that work on slices; they come first
  float* dk;        // [shares, kv_heads, rows, head_dim]
  float* dv;        // [shares, kv_heads, rows, value_dim]
};

struct KeyWork {
  int64_t sequence;
  int32_t head;  // of k and v
  int32_t first_key;
  int32_t first_query;
  int32_t end_query;
  int64_t share;  // of the workspace; -1: the gradients themselves
  bool exists;
};

LONGATTN_HOST_DEVICE int64_t slices_of(const SequenceLayout& layout, int64_t sequence,
                                       int32_t queries) {
  const int64_t rows = layout.split == Split::kPacked ? packed_sequence(layout, sequence).q_len
                                                      : longest_q_len(layout);
  return ceil_divide(rows, queries);
}

// The share of a sequence's second slice; those of the next slices follow. Packed: a sequence of n
// queries lies over at least ceil(n / queries) - 1 ends of slices of the whole tensor.
LONGATTN_HOST_DEVICE int64_t first_share(const SequenceLayout& layout, int64_t sequence,
                                         int32_t queries) {
  if (layout.split == Split::kPacked) {
    return clamp(layout.cu_seqlens_q[sequence], 0, layout.q_len) / queries;
  }
  return sequence * (ceil_divide(longest_q_len(layout), queries) - 1);
}

LONGATTN_HOST_DEVICE int64_t share_count(const SequenceLayout& layout, int32_t queries) {
  if (layout.split == Split::kPacked) return layout.q_len / queries;
  return first_share(layout, sequences_of(layout), queries);
}

LONGATTN_HOST_DEVICE KeyWork key_work_at(const SequenceLayout& layout, const SinkSlices& sinks,
                                         int32_t heads, int32_t key_tile, int64_t index) {
  if (index >= sinks.blocks) {
    const Work tile = work_at(layout, tiled_keys(layout, key_tile), heads, index - sinks.blocks,
                              /*last_tile_first=*/false);
    constexpr int32_t kAll = std::numeric_limits<int32_t>::max();
    const bool exists = tile.first_row >= sinks.rows;  // else slices do its work
    return {tile.sequence, tile.head, tile.first_row, 0, kAll, -1, exists};
  }
  // Tiles of sinks count as heads: their slices are neighbours, and read the same queries.
  const Work slice = work_at(layout, tiled_queries(layout, sinks.queries),
                             heads * (sinks.rows / key_tile), index, /*last_tile_first=*/false);
  const int32_t number = slice.first_row / sinks.queries;
  const int64_t share =
      number == 0 ? -1 : first_share(layout, slice.sequence, sinks.queries) + number - 1;
  return {slice.sequence,
          slice.head % heads,
          slice.head / heads * key_tile,
          slice.first_row,
          slice.first_row + sinks.queries,
          share,
          number < slices_of(layout, slice.sequence, sinks.queries)};
}

}  // namespace longattn::cuda
