// SPDX-License-Identifier: BSD-3-Clause
// Forward on mma.sync: a thread block owns a tile of queries of one head; each warp owns 16 rows.
// Key tiles outside the band are never loaded; only partial ones compare.
#pragma once

#include <ptx/barrier.h>

#include "cuda/forward/epilogue.h"
#include "cuda/forward/online_softmax.h"
#include "cuda/forward/parameters.h"
#include "cuda/forward/sm80/config.h"
#include "cuda/schedule/key_walk.h"
#include "cuda/schedule/query_tile.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/visibility.h"

namespace longattn::cuda {

template <ForwardConfig kConfig, class Scores>
struct ForwardShared {
  SharedTile<kConfig.query_tile, kConfig.head_dim> q;
  KeyStage<kConfig.key_tile, kConfig.head_dim> stages[kStages];
  typename Scores::template Strip<kConfig.query_tile, kConfig.key_tile> strips[kStages];
  QueryTile tile;
};

template <ForwardConfig kConfig, class Element, class Epilogue, class Scores>
class ForwardBlock {
 public:
  using Shared = ForwardShared<kConfig, Scores>;
  using Stage = KeyStage<kConfig.key_tile, kConfig.head_dim>;
  static constexpr int kThreads = kConfig.threads();

  LONGATTN_DEVICE ForwardBlock(Shared& shared, const ForwardParameters& parameters)
      : shared_(shared),
        tile_(shared.tile),
        problem_(parameters.problem),
        bands_(parameters.bands),
        scores_(parameters.scores, parameters.problem),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run(int64_t block) {
    find_query_tile<kConfig.query_tile, kConfig.key_tile>(shared_.tile, problem_, bands_, block);
    if (!tile_.exists()) return;
    load_row_bounds();
    out_.clear();
    load_queries();
    walk_keys<kThreads, Element>(
        shared_.stages, shared_.strips, problem_, tile_, scores_, thread_,
        [&](int stage, const TileOfKeys& keys) { visit(stage, keys); });
    store();
  }

 private:
  LONGATTN_DEVICE void load_queries() {
    copy_rows_async<kThreads>(shared_.q,
                              query_rows<const Element>(problem_.q, tile_.sequence, tile_.head,
                                                        tile_.first_row, problem_.head_dim),
                              thread_);
  }

  LONGATTN_DEVICE void load_row_bounds() {
    const HeadBand& band = bands_.bands[bands_.band_of_head[tile_.head]];
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      bounds_[half] = tile_.bounds_of(band, warp_row_ + row_of_lane(lane_, half));
    }
  }

  LONGATTN_DEVICE void visit(int index, const TileOfKeys& keys) {
    const Stage& stage = shared_.stages[index];
    RegisterTile<kConfig.key_tile> scores;
    scores.clear();
    multiply_by_rows<Element>(scores, shared_.q, warp_row_, stage.k, lane_);
    scores_.by_cap([&](auto cap) {
      scores.for_each(lane_, [&](float& score, int half, int column) {
        score = scores_.score(cap, score, shared_.strips[index],
                              warp_row_ + row_of_lane(lane_, half), column);
      });
    });
    if (!keys.full) hide(scores, keys.first_key);
    softmax_.update(scores, out_, scores_.factor());
    multiply_by_columns<Element>(out_, scores, stage.v, lane_);
  }

  LONGATTN_DEVICE void hide(RegisterTile<kConfig.key_tile>& scores, int32_t first_key) const {
    scores.for_each(lane_, [&](float& score, int half, int column) {
      if (!is_visible(bounds_[half], first_key + column)) score = -INFINITY;
    });
  }

  LONGATTN_DEVICE void store() {
    const Sequence& sequence = tile_.sequence;
    const auto* sinks = static_cast<const float*>(problem_.sink_logits);
    const float sink = sinks ? ptx::load_global_float(sinks + tile_.head) : -INFINITY;
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = tile_.first_row + warp_row_ + row_of_lane(lane_, half);
      const bool exists = row < sequence.q_len;
      const int64_t stored_row = stored_query(sequence, row);
      float* lse = row_pointer<float>(problem_.lse, sequence.batch, stored_row, tile_.head);
      const float old_lse = exists ? Epilogue::read_lse(lse) : -INFINITY;
      const MergedRow merged =
          Epilogue::merge(old_lse, softmax_.finish_row(half, scores_.factor(), sink));
      ptx::synchronize_warp();  // the four lanes of the row have read the old lse
      if (exists && lane_ % 4 == 0) ptx::store_global_float(lse, merged.lse);
      Epilogue::store_row(row_pointer<typename Epilogue::Out>(problem_.out, sequence.batch,
                                                              stored_row, tile_.head),
                          exists ? problem_.value_dim : 0, out_, half, merged, lane_);
    }
  }

  Shared& shared_;
  const QueryTile& tile_;
  const ForwardProblem& problem_;
  const BandTable& bands_;
  const Scores scores_;
  const int thread_, lane_, warp_row_;
  RowBounds bounds_[kRowsOfLane];
  OnlineSoftmax softmax_;
  RegisterTile<kConfig.head_dim> out_;  // unnormalised
};

// The configuration is named by its index: nvcc 13.0 cannot make the host's half of a kernel whose
// template argument is a struct.
template <int kIndex, class Element, class Epilogue, class Scores>
__global__ void __launch_bounds__(kForwardConfigs[kIndex].threads(),
                                  kForwardConfigs[kIndex].min_blocks)
    forward_kernel(const __grid_constant__ ForwardParameters parameters) {
  constexpr ForwardConfig kConfig = kForwardConfigs[kIndex];
  ForwardBlock<kConfig, Element, Epilogue, Scores> block(
      ptx::shared_memory<ForwardShared<kConfig, Scores>>(), parameters);
  block.run(blockIdx.x);
}

}  // namespace longattn::cuda
