// SPDX-License-Identifier: BSD-3-Clause
// Which tile of rows a thread block works on. The grid is bounded on the host without reading
// anything back: packed sequences find themselves by searching cu_seqlens, and blocks that turn
// out to be beyond the end of their sequence return at once.
#pragma once

#include "semantics/sequence.h"

namespace longattn::cuda {

// `rows`: those of q or of k that are cut into tiles.
struct TiledRows {
  int32_t tile;             // rows of a tile
  int64_t longest;          // no sequence has more rows
  const int32_t* cu_seqlens;  // packed only
};

struct Work {
  int64_t sequence;
  int32_t head;
  int32_t first_row;
};

LONGATTN_HOST_DEVICE TiledRows tiled_queries(const SequenceLayout& layout, int32_t tile) {
  return {tile, longest_q_len(layout), layout.cu_seqlens_q};
}

LONGATTN_HOST_DEVICE int64_t longest_k_len(const SequenceLayout& layout) {
  if (layout.split != Split::kDilated) return layout.kv_len;
  return smaller(ceil_divide(layout.segment_length, layout.rate), layout.kv_len);
}

LONGATTN_HOST_DEVICE TiledRows tiled_keys(const SequenceLayout& layout, int32_t tile) {
  return {tile, longest_k_len(layout), layout.cu_seqlens_k};
}

// Tiles of all sequences, or an upper bound of them. Packed: sequence s owns the slots from
// cu_seqlens[s] / tile + s, of which there are at least as many as it has tiles.
LONGATTN_HOST_DEVICE int64_t tile_slots(const SequenceLayout& layout, const TiledRows& rows) {
  if (layout.split == Split::kPacked) {
    return layout.batch == 0 ? 0 : rows.longest / rows.tile + layout.batch;
  }
  return sequences_of(layout) * ceil_divide(rows.longest, rows.tile);
}

LONGATTN_HOST_DEVICE int64_t first_slot(const TiledRows& rows, int64_t sequence) {
  return clamp(rows.cu_seqlens[sequence], 0, rows.longest) / rows.tile + sequence;
}

LONGATTN_HOST_DEVICE int64_t sequence_of_slot(const SequenceLayout& layout, const TiledRows& rows,
                                              int64_t slot) {
  int64_t low = 0, high = layout.batch - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first_slot(rows, middle) <= slot) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Blocks start in order of `index`; under a causal mask the last tiles of queries see the most
// keys, and the first tiles of keys are seen by the most queries. Heads are neighbours, so that
// those of one group share their keys in the cache. Packed: longest first holds within a sequence
// only, and the last sequence comes first: lengths are known on the device alone, and to sort them
// there would be one more launch. tests/native/test_packed_order.cpp counts what is lost: nothing
// to speak of, unless the call is so small that the longest block is a good part of it.
LONGATTN_HOST_DEVICE Work work_at(const SequenceLayout& layout, const TiledRows& rows,
                                  int32_t heads, int64_t index, bool last_tile_first) {
  const int32_t head = static_cast<int32_t>(index % heads);
  int64_t slot = index / heads;
  if (layout.split == Split::kPacked) {
    if (last_tile_first) slot = tile_slots(layout, rows) - 1 - slot;
    const int64_t sequence = sequence_of_slot(layout, rows, slot);
    // Bad borders may put the slot before its sequence; the tile must not lie before its rows.
    const int64_t tile = larger(slot - first_slot(rows, sequence), 0);
    return {sequence, head, static_cast<int32_t>(tile * rows.tile)};
  }
  const int64_t sequences = sequences_of(layout);
  int64_t tile = slot / sequences;
  if (last_tile_first) tile = ceil_divide(rows.longest, rows.tile) - 1 - tile;
  return {slot % sequences, head, static_cast<int32_t>(tile * rows.tile)};
}

}  // namespace longattn::cuda
