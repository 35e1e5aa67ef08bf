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
#include "cuda/schedule/work.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/visibility.h"

namespace longattn::cuda {

template <ForwardConfig kConfig>
struct ForwardShared {
  SharedTile<kConfig.query_tile, kConfig.head_dim> q;
  KeyStage<kConfig.key_tile, kConfig.head_dim> stages[kStages];
};

template <ForwardConfig kConfig, class Element, class Epilogue, class Scores>
class ForwardBlock {
 public:
  using Shared = ForwardShared<kConfig>;
  static constexpr int kThreads = kConfig.threads();

  LONGATTN_DEVICE ForwardBlock(Shared& shared, const ForwardParameters& parameters,
                               const Sequence& sequence, int32_t head, int32_t first_row)
      : shared_(shared),
        problem_(parameters.problem),
        scores_(parameters.scores),
        band_(parameters.bands.bands[parameters.bands.band_of_head[head]]),
        sequence_(sequence),
        head_(head),
        first_row_(first_row),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run() {
    const int32_t last_row = smaller(first_row_ + kConfig.query_tile, sequence_.q_len) - 1;
    const KeyTileList tiles(key_tiles(bounds_at(band_, sequence_, first_row_),
                                      bounds_at(band_, sequence_, last_row), kConfig.key_tile),
                            kConfig.key_tile);
    load_row_bounds();
    out_.clear();
    load_queries();
    walk_keys<kThreads, Element>(
        shared_.stages, problem_, sequence_, head_, tiles, thread_,
        [&](const auto& stage, const TileOfKeys& keys) { visit(stage, keys); });
    store();
  }

 private:
  LONGATTN_DEVICE void load_queries() {
    copy_rows_async<kThreads>(
        shared_.q,
        query_rows<const Element>(problem_.q, sequence_, head_, first_row_, problem_.head_dim),
        thread_);
  }

  LONGATTN_DEVICE void load_row_bounds() {
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row_ + warp_row_ + row_of_lane(lane_, half);
      bounds_[half] =
          row < sequence_.q_len ? bounds_at(band_, sequence_, row) : RowBounds{0, 0, 0, 0};
    }
  }

  using Stage = KeyStage<kConfig.key_tile, kConfig.head_dim>;

  LONGATTN_DEVICE void visit(const Stage& stage, const TileOfKeys& keys) {
    RegisterTile<kConfig.key_tile> scores;
    scores.clear();
    multiply_by_rows<Element>(scores, shared_.q, warp_row_, stage.k, lane_);
    scores_.apply(scores);
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
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row_ + warp_row_ + row_of_lane(lane_, half);
      const bool exists = row < sequence_.q_len;
      const int64_t stored_row = stored_query(sequence_, row);
      float* lse = row_pointer<float>(problem_.lse, sequence_.batch, stored_row, head_);
      const float old_lse = exists ? Epilogue::read_lse(lse) : -INFINITY;
      const MergedRow merged = Epilogue::merge(old_lse, softmax_.finish_row(half));
      ptx::synchronize_warp();  // the four lanes of the row have read the old lse
      if (exists && lane_ % 4 == 0) ptx::store_global_float(lse, merged.lse);
      Epilogue::store_row(
          row_pointer<typename Epilogue::Out>(problem_.out, sequence_.batch, stored_row, head_),
          exists ? problem_.value_dim : 0, out_, half, merged, lane_);
    }
  }

  Shared& shared_;
  const ForwardProblem& problem_;
  const Scores scores_;
  const HeadBand& band_;
  const Sequence sequence_;
  const int32_t head_, first_row_;
  const int thread_, lane_, warp_row_;
  RowBounds bounds_[kRowsOfLane];
  OnlineSoftmax softmax_;
  RegisterTile<kConfig.head_dim> out_;  // unnormalised
};

// The configuration is named by its index: nvcc 13.0 cannot make the host's half of a kernel whose
// template argument is a struct.
template <int kIndex, class Element, class Epilogue, class Scores>
__global__ void __launch_bounds__(kForwardConfigs[kIndex].threads())
    forward_kernel(const __grid_constant__ ForwardParameters parameters) {
  constexpr ForwardConfig kConfig = kForwardConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int32_t q_heads = parameters.problem.q_heads;
  const Work work = work_at(layout, tiled_queries(layout, kConfig.query_tile), q_heads,
                            blockIdx.x, /*last_tile_first=*/true);
  const Sequence sequence = sequence_at(layout, work.sequence, work.head, q_heads);
  if (work.first_row >= sequence.q_len) return;
  ForwardBlock<kConfig, Element, Epilogue, Scores> block(
      ptx::shared_memory<ForwardShared<kConfig>>(), parameters, sequence, work.head,
      work.first_row);
  block.run();
}

}  // namespace longattn::cuda
