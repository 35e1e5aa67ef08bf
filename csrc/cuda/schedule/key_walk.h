// SPDX-License-Identifier: BSD-3-Clause
// The walk of a tile of queries over the keys that it sees.
#pragma once

#include "cuda/schedule/query_tile.h"
#include "cuda/schedule/walk.h"
#include "cuda/tiles/tensor_rows.h"

namespace longattn::cuda {

template <int kKeys, int kDim>
struct KeyStage {
  SharedTile<kKeys, kDim> k;
  SharedTile<kKeys, kDim> v;
};

// visit(stage, keys) for every tile of keys, after prepare(stage, keys) while its copies are on their
// way; `stage` is an index.
template <int kThreads, class Element, class Stage, class Prepare, class Visit>
LONGATTN_DEVICE void walk_keys(Stage (&stages)[kStages], const Problem& problem,
                               const QueryTile& tile, int thread, Prepare prepare, Visit visit) {
  const Sequence& sequence = tile.sequence;
  const int32_t kv_head = kv_head_of(problem, tile.head);
  const auto first_row = [&](const TensorView& view) {
    return row_pointer<const Element>(view, sequence.batch, sequence.k_row, kv_head);
  };
  const Element *k = first_row(problem.k), *v = first_row(problem.v);
  const auto load = [&](Stage& stage, int32_t first_key) {
    // Strides and lengths are read again for every tile, rather than kept in registers.
    const auto from = [&](const Element* data, int64_t stride, int dim) {
      return GlobalRows<const Element>{data, stride * sequence.row_step, sequence.k_len, dim}.from(
          first_key);
    };
    copy_rows_async<kThreads>(stage.k, from(k, problem.k.row_stride, problem.head_dim), thread);
    copy_rows_async<kThreads>(stage.v, from(v, problem.v.row_stride, problem.value_dim), thread);
  };
  walk_tiles(
      tile.keys.count(),
      [&](int32_t index) {
        const TileOfKeys keys = tile.keys[index];
        load(stages[index % kStages], keys.first_key);
        prepare(index % kStages, keys);
      },
      [&](int32_t index) { visit(index % kStages, tile.keys[index]); });
}

}  // namespace longattn::cuda
