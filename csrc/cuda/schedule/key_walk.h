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

// visit(stage, keys) for every tile of keys; `stage` is an index, its strip goes with it.
template <int kThreads, class Element, class Stage, class Strip, class Scores, class Visit>
LONGATTN_DEVICE void walk_keys(Stage (&stages)[kStages], Strip (&strips)[kStages],
                               const Problem& problem, const QueryTile& tile, const Scores& scores,
                               int thread, Visit visit) {
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
  static_assert(Strip::kEntries <= kThreads, "a thread brings one entry");
  typename Strip::Part part;
  walk_tiles(
      tile.keys.count(),
      [&](int32_t index) {
        const int32_t first_key = tile.keys[index].first_key;
        load(stages[index % kStages], first_key);
        part = scores.template read<Strip>(sequence, tile.head, tile.first_row, first_key, thread);
      },
      [&](int32_t index) { strips[index % kStages].put(part, thread); },
      [&](int32_t index) { visit(index % kStages, tile.keys[index]); });
}

}  // namespace longattn::cuda
