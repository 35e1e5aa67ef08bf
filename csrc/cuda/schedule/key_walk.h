// SPDX-License-Identifier: BSD-3-Clause
// The walk of a tile of queries over the keys that it sees.
#pragma once

#include "cuda/schedule/key_tile_list.h"
#include "cuda/schedule/walk.h"
#include "cuda/tiles/tensor_rows.h"

namespace longattn::cuda {

template <int kKeys, int kDim>
struct KeyStage {
  SharedTile<kKeys, kDim> k;
  SharedTile<kKeys, kDim> v;
};

// visit(stage, tile) for every tile of keys. `head`: of the queries.
template <int kThreads, class Element, class Stage, class Visit>
LONGATTN_DEVICE void walk_keys(Stage (&stages)[kStages], const Problem& problem,
                               const Sequence& sequence, int32_t head, const KeyTileList& tiles,
                               int thread, Visit visit) {
  const int32_t kv_head = kv_head_of(problem, head);
  const auto load = [&](Stage& stage, int32_t key) {
    copy_rows_async<kThreads>(
        stage.k, key_rows<const Element>(problem.k, sequence, kv_head, key, problem.head_dim),
        thread);
    copy_rows_async<kThreads>(
        stage.v, key_rows<const Element>(problem.v, sequence, kv_head, key, problem.value_dim),
        thread);
  };
  walk_tiles(
      tiles.count(),
      [&](int32_t index) { load(stages[index % kStages], tiles[index].first_key); },
      [&](int32_t index) { visit(stages[index % kStages], tiles[index]); });
}

}  // namespace longattn::cuda
