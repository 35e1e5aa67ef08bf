// SPDX-License-Identifier: BSD-3-Clause
// dQ on mma.sync: a thread block owns a tile of queries and walks over the keys that they see.
#pragma once

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/key_walk.h"
#include "cuda/schedule/query_tile.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/store.h"
#include "cuda/tiles/visibility.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

template <BackwardConfig kConfig, class Scores>
struct QueryGradientShared {
  SharedTile<kConfig.query_tile, kConfig.head_dim> q;
  SharedTile<kConfig.query_tile, kConfig.head_dim> dout;
  KeyStage<kConfig.key_tile, kConfig.head_dim> stages[kStages];
  typename Scores::template Strip<kConfig.query_tile, kConfig.key_tile> strips[kStages];
  QueryTile tile;
};

template <BackwardConfig kConfig, class Element, class Scores>
class QueryGradientBlock {
 public:
  using Shared = QueryGradientShared<kConfig, Scores>;
  using Stage = KeyStage<kConfig.key_tile, kConfig.head_dim>;
  static constexpr int kThreads = kConfig.threads();
  static_assert(kConfig.query_tile == kConfig.warps * kWarpRows);

  LONGATTN_DEVICE QueryGradientBlock(Shared& shared, const BackwardParameters& parameters)
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
    // Without keys dq stays as it is: nothing is added.
    if (!tile_.exists() || tile_.keys.count() == 0) return;
    load_rows();
    dq_.clear();
    load_queries(shared_.q, problem_.q, problem_.head_dim);
    load_queries(shared_.dout, problem_.dout, problem_.value_dim);
    walk_keys<kThreads, Element>(
        shared_.stages, shared_.strips, problem_, tile_, scores_, thread_,
        [&](int stage, const TileOfKeys& keys) { visit(stage, keys); });
    add();
  }

 private:
  using Rows = SharedTile<kConfig.query_tile, kConfig.head_dim>;

  LONGATTN_DEVICE void load_queries(const Rows& rows, const TensorView& view, int dim) {
    copy_rows_async<kThreads>(
        rows,
        query_rows<const Element>(view, tile_.sequence, tile_.head, tile_.first_row, dim),
        thread_);
  }

  LONGATTN_DEVICE void load_rows() {
    const Sequence& sequence = tile_.sequence;
    const HeadBand& band = bands_.bands[bands_.band_of_head[tile_.head]];
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int row_of_tile = warp_row_ + row_of_lane(lane_, half);
      const int32_t row = tile_.first_row + row_of_tile;
      bounds_[half] = tile_.bounds_of(band, row_of_tile);
      reference_[half] = INFINITY;  // weights 0
      delta_[half] = 0.0f;
      if (row >= sequence.q_len) continue;
      const int64_t stored_row = stored_query(sequence, row);
      reference_[half] = weight_reference(ptx::load_global_float(
          row_pointer<float>(problem_.lse, sequence.batch, stored_row, tile_.head)));
      delta_[half] = ptx::load_global_float(
          row_pointer<float>(problem_.delta, sequence.batch, stored_row, tile_.head));
    }
  }

  LONGATTN_DEVICE void visit(int index, const TileOfKeys& keys) {
    const Stage& stage = shared_.stages[index];
    RegisterTile<kConfig.key_tile> scores, dp;
    scores.clear();
    multiply_by_rows<Element>(scores, shared_.q, warp_row_, stage.k, lane_);
    dp.clear();
    multiply_by_rows<Element>(dp, shared_.dout, warp_row_, stage.v, lane_);
    auto& ds = dp;
    scores_.by_cap([&](auto cap) {
#pragma unroll
      for (int block = 0; block < ds.kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float slope;
          const float exponent = scores_.exponent(
              cap, scores.values[block][i], reference_[i / 2], shared_.strips[index],
              warp_row_ + row_of_lane(lane_, i / 2), column_of_lane(lane_, block) + i % 2, slope);
          ds.values[block][i] =
              ptx::exp2_approximate(exponent) * (dp.values[block][i] - delta_[i / 2]) * slope;
        }
      }
    });
    if (!keys.full) {
      ds.for_each(lane_, [&](float& value, int half, int column) {
        if (!is_visible(bounds_[half], keys.first_key + column)) value = 0.0f;
      });
    }
    multiply_by_columns<Element>(dq_, ds, stage.k, lane_);
  }

  LONGATTN_DEVICE void add() {
    const Sequence& sequence = tile_.sequence;
    const float scale = static_cast<float>(problem_.softmax_scale);
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = tile_.first_row + warp_row_ + row_of_lane(lane_, half);
      const int width = row < sequence.q_len ? problem_.head_dim : 0;
      float* dq = row_pointer<float>(problem_.dq, sequence.batch, stored_query(sequence, row),
                                     tile_.head);
      add_half(dq, width, dq_, half, scale, lane_);
    }
  }

  Shared& shared_;
  const QueryTile& tile_;
  const BackwardProblem& problem_;
  const BandTable& bands_;
  const Scores scores_;
  const int thread_, lane_, warp_row_;
  RowBounds bounds_[kRowsOfLane];
  float reference_[kRowsOfLane];
  float delta_[kRowsOfLane];
  RegisterTile<kConfig.head_dim> dq_;
};

// See forward/sm80/kernel.cuh on the index.
template <int kIndex, class Element, class Scores>
__global__ void __launch_bounds__(kQueryGradientConfigs[kIndex].threads(),
                                  kQueryGradientConfigs[kIndex].min_blocks)
    query_gradient_kernel(const __grid_constant__ BackwardParameters parameters) {
  constexpr BackwardConfig kConfig = kQueryGradientConfigs[kIndex];
  QueryGradientBlock<kConfig, Element, Scores> block(
      ptx::shared_memory<QueryGradientShared<kConfig, Scores>>(), parameters);
  block.run(blockIdx.x);
}

}  // namespace longattn::cuda
