// SPDX-License-Identifier: BSD-3-Clause
// dQ on mma.sync: a thread block owns a tile of queries and walks over the keys that they see.
#pragma once

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/key_walk.h"
#include "cuda/schedule/work.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/store.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

template <BackwardConfig kConfig>
struct QueryGradientShared {
  SharedTile<kConfig.query_tile, kConfig.head_dim> q;
  SharedTile<kConfig.query_tile, kConfig.head_dim> dout;
  KeyStage<kConfig.key_tile, kConfig.head_dim> stages[kStages];
};

template <BackwardConfig kConfig, class Element>
class QueryGradientBlock {
 public:
  using Shared = QueryGradientShared<kConfig>;
  static constexpr int kThreads = kConfig.threads();
  static_assert(kConfig.query_tile == kConfig.warps * kWarpRows);

  LONGATTN_DEVICE QueryGradientBlock(Shared& shared, const BackwardParameters& parameters,
                                     const Sequence& sequence, int32_t head, int32_t first_row)
      : shared_(shared),
        problem_(parameters.problem),
        scale_(parameters.scale),
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
    if (tiles.count() == 0) return;  // dq stays as it is: nothing is added
    load_rows();
    dq_.clear();
    load_queries();
    walk_keys<kThreads, Element>(
        shared_.stages, problem_, sequence_, head_, tiles, thread_,
        [&](const auto& stage, const TileOfKeys& keys) { visit(stage, keys); });
    add();
  }

 private:
  LONGATTN_DEVICE void load_queries() {
    copy_rows_async<kThreads>(
        shared_.q,
        query_rows<const Element>(problem_.q, sequence_, head_, first_row_, problem_.head_dim),
        thread_);
    copy_rows_async<kThreads>(
        shared_.dout,
        query_rows<const Element>(problem_.dout, sequence_, head_, first_row_, problem_.value_dim),
        thread_);
  }

  LONGATTN_DEVICE void load_rows() {
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row_ + warp_row_ + row_of_lane(lane_, half);
      bounds_[half] = RowBounds{0, 0, 0, 0};
      reference_[half] = INFINITY;  // weights 0
      delta_[half] = 0.0f;
      if (row >= sequence_.q_len) continue;
      const int64_t stored_row = stored_query(sequence_, row);
      bounds_[half] = bounds_at(band_, sequence_, row);
      const float* lse = row_pointer<float>(problem_.lse, sequence_.batch, stored_row, head_);
      const float* delta = row_pointer<float>(problem_.delta, sequence_.batch, stored_row, head_);
      reference_[half] = weight_reference(ptx::load_global_float(lse));
      delta_[half] = ptx::load_global_float(delta);
    }
  }

  using Stage = KeyStage<kConfig.key_tile, kConfig.head_dim>;

  LONGATTN_DEVICE void visit(const Stage& stage, const TileOfKeys& keys) {
    RegisterTile<kConfig.key_tile> scores, dp;
    scores.clear();
    multiply_by_rows<Element>(scores, shared_.q, warp_row_, stage.k, lane_);
    dp.clear();
    multiply_by_rows<Element>(dp, shared_.dout, warp_row_, stage.v, lane_);
#pragma unroll
    for (int block = 0; block < RegisterTile<kConfig.key_tile>::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = keys.first_key + block * kBlockColumns + lane_ % 4 * 2 + i % 2;
        const bool visible = keys.full || sees(bounds_[i / 2], key);
        float& score = scores.values[block][i];
        const float p =
            visible ? ptx::exp2_approximate(score * scale_ - reference_[i / 2]) : 0.0f;
        score = p * (dp.values[block][i] - delta_[i / 2]);
      }
    }
    multiply_by_columns<Element>(dq_, scores, stage.k, lane_);
  }

  LONGATTN_DEVICE void add() {
    const float scale = static_cast<float>(problem_.softmax_scale);
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row_ + warp_row_ + row_of_lane(lane_, half);
      const int width = row < sequence_.q_len ? problem_.head_dim : 0;
      float* dq = row_pointer<float>(problem_.dq, sequence_.batch, stored_query(sequence_, row),
                                     head_);
      add_half(dq, width, dq_, half, scale, lane_);
    }
  }

  Shared& shared_;
  const BackwardProblem& problem_;
  const float scale_;
  const HeadBand& band_;
  const Sequence sequence_;
  const int32_t head_, first_row_;
  const int thread_, lane_, warp_row_;
  RowBounds bounds_[kRowsOfLane];
  float reference_[kRowsOfLane];
  float delta_[kRowsOfLane];
  RegisterTile<kConfig.head_dim> dq_;
};

// See forward/sm80/kernel.cuh on the index.
template <int kIndex, class Element>
__global__ void __launch_bounds__(kQueryGradientConfigs[kIndex].threads())
    query_gradient_kernel(const __grid_constant__ BackwardParameters parameters) {
  constexpr BackwardConfig kConfig = kQueryGradientConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int32_t q_heads = parameters.problem.q_heads;
  const Work work = work_at(layout, tiled_queries(layout, kConfig.query_tile), q_heads,
                            blockIdx.x, /*last_tile_first=*/true);
  const Sequence sequence = sequence_at(layout, work.sequence, work.head, q_heads);
  if (work.first_row >= sequence.q_len) return;
  QueryGradientBlock<kConfig, Element> block(ptx::shared_memory<QueryGradientShared<kConfig>>(),
                                             parameters, sequence, work.head, work.first_row);
  block.run();
}

}  // namespace longattn::cuda
