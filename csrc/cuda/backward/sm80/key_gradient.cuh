// SPDX-License-Identifier: BSD-3-Clause
// dK and dV on mma.sync: a thread block owns a tile of keys and walks over the queries that see
// them, head after head of its group. Scores are transposed, [keys][queries], so that weights are
// operands of the next products without leaving the registers.
#pragma once

#include <ptx/barrier.h>

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/walk.h"
#include "cuda/schedule/work.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/store.h"
#include "cuda/tiles/tensor_rows.h"
#include "cuda/tiles/visibility.h"
#include "semantics/softmax_state.h"
#include "semantics/tiles.h"

namespace longattn::cuda {

template <BackwardConfig kConfig, class Scores>
struct KeyGradientShared {
  using Strip = typename Scores::template Strip<kConfig.query_tile, kConfig.key_tile>;
  SharedTile<kConfig.key_tile, kConfig.head_dim> k;
  SharedTile<kConfig.key_tile, kConfig.head_dim> v;
  struct Stage {
    SharedTile<kConfig.query_tile, kConfig.head_dim> q;
    SharedTile<kConfig.query_tile, kConfig.head_dim> dout;
    RowBounds bounds[kConfig.query_tile];
    float reference[kConfig.query_tile];  // lse in log2 units
    float delta[kConfig.query_tile];
    Strip strip;
  } stages[kStages];
  Sequence sequence;  // of the head at work; here because registers are short
};

// The query tiles of one head that one slice of the work covers.
struct QueryTileRange {
  int32_t begin;
  int32_t end;
  TileInterval interval;
};

template <BackwardConfig kConfig, class Element, class Scores>
class KeyGradientBlock {
 public:
  using Shared = KeyGradientShared<kConfig, Scores>;
  static constexpr int kThreads = kConfig.threads();
  static_assert(kConfig.key_tile == kConfig.warps * kWarpRows);
  static_assert(kConfig.query_tile <= kThreads, "a thread brings one row");
  static_assert(Shared::Strip::kEntries <= kThreads, "a thread brings one entry");

  LONGATTN_DEVICE KeyGradientBlock(Shared& shared, const BackwardParameters& parameters,
                                   const Work& work, int32_t slice)
      : shared_(shared),
        parameters_(parameters),
        problem_(parameters.problem),
        scores_(parameters.scores, parameters.problem),
        work_(work),
        slice_(slice),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run() {
    const bool views_differ = problem_.layout.split == Split::kDilated;
    const int32_t group = problem_.q_heads / problem_.kv_heads;
    dk_.clear();
    dv_.clear();
    for (int32_t i = 0; i < group; ++i) {
      select_head(work_.head * group + i);
      if (work_.first_row < shared_.sequence.k_len) {
        if (i == 0 || views_differ) load_keys();
        visit_queries();
      }
      // Heads of a dilated group may look at different rows: each leaves its share at once.
      if (views_differ || i + 1 == group) leave();
      ptx::synchronize_block();  // the next head replaces the sequence and the tiles
    }
  }

 private:
  // What a thread reads of the next tile's rows while it works on this one.
  struct RowsAhead {
    float lse;
    float delta;
    typename Shared::Strip::Part strip;
  };

  LONGATTN_DEVICE void select_head(int32_t head) {
    head_ = head;
    band_ = &parameters_.bands.bands[parameters_.bands.band_of_head[head]];
    if (thread_ == 0) {
      shared_.sequence = sequence_at(problem_.layout, work_.sequence, head, problem_.q_heads);
    }
    ptx::synchronize_block();  // every thread sees the sequence of this head
  }

  LONGATTN_DEVICE void load_keys() {
    copy_rows_async<kThreads>(
        shared_.k,
        cuda::key_rows<const Element>(problem_.k, shared_.sequence, work_.head, work_.first_row,
                                      problem_.head_dim),
        thread_);
    copy_rows_async<kThreads>(
        shared_.v,
        cuda::key_rows<const Element>(problem_.v, shared_.sequence, work_.head, work_.first_row,
                                      problem_.value_dim),
        thread_);
  }

  LONGATTN_DEVICE QueryTileRange query_tiles_of_slice() const {
    const TileInterval interval = query_tiles(*band_, shared_.sequence, work_.first_row,
                                              kConfig.key_tile, kConfig.query_tile);
    const int32_t count = tile_count(interval);
    const int32_t slices = parameters_.sinks.count;
    if (slices == 1 || work_.first_row >= parameters_.sinks.rows) {
      return {interval.begin, interval.end, interval};
    }
    const int32_t per_slice = (count + slices - 1) / slices;
    const int32_t begin = smaller(interval.begin + slice_ * per_slice, interval.end);
    return {begin, static_cast<int32_t>(smaller(begin + per_slice, interval.end)), interval};
  }

  LONGATTN_DEVICE void visit_queries() {
    const QueryTileRange tiles = query_tiles_of_slice();
    RowsAhead ahead;
    walk_tiles(
        tiles.end - tiles.begin,
        [&](int32_t index) {
          load_queries(shared_.stages[index % kStages], tiles.begin + index);
          ahead = read_rows(tiles.begin + index);
        },
        [&](int32_t index) {
          put_rows(shared_.stages[index % kStages], tiles.begin + index, ahead);
        },
        [&](int32_t index) {
          visit(shared_.stages[index % kStages], is_full(tiles.interval, tiles.begin + index));
        });
  }

  LONGATTN_DEVICE void load_queries(typename Shared::Stage& stage, int32_t tile) {
    const int32_t first_row = tile * kConfig.query_tile;
    copy_rows_async<kThreads>(
        stage.q,
        query_rows<const Element>(problem_.q, shared_.sequence, head_, first_row, problem_.head_dim),
        thread_);
    copy_rows_async<kThreads>(
        stage.dout,
        query_rows<const Element>(problem_.dout, shared_.sequence, head_, first_row,
                                  problem_.value_dim),
        thread_);
  }

  // Thread t brings row t of a tile. Rows that do not exist have an lse of -inf: weights 0.
  LONGATTN_DEVICE RowsAhead read_rows(int32_t tile) const {
    const Sequence& sequence = shared_.sequence;
    const int32_t first_row = tile * kConfig.query_tile, row = first_row + thread_;
    RowsAhead ahead{-INFINITY, 0.0f,
                    scores_.template read<typename Shared::Strip>(sequence, head_, first_row,
                                                                  work_.first_row, thread_)};
    if (thread_ < kConfig.query_tile && row < sequence.q_len) {
      const int64_t stored_row = stored_query(sequence, row);
      ahead.lse = ptx::load_global_float(
          row_pointer<float>(problem_.lse, sequence.batch, stored_row, head_));
      ahead.delta = ptx::load_global_float(
          row_pointer<float>(problem_.delta, sequence.batch, stored_row, head_));
    }
    return ahead;
  }

  LONGATTN_DEVICE void put_rows(typename Shared::Stage& stage, int32_t tile,
                                const RowsAhead& ahead) const {
    stage.strip.put(ahead.strip, thread_);
    if (thread_ >= kConfig.query_tile) return;
    const Sequence& sequence = shared_.sequence;
    const int32_t row = tile * kConfig.query_tile + thread_;
    stage.bounds[thread_] =
        row < sequence.q_len ? bounds_at(*band_, sequence, row) : RowBounds{0, 0, 0, 0};
    stage.reference[thread_] = weight_reference(ahead.lse);
    stage.delta[thread_] = ahead.delta;
  }

  LONGATTN_DEVICE void visit(const typename Shared::Stage& stage, bool full) {
    RegisterTile<kConfig.query_tile> scores, dp;
    scores.clear();
    multiply_by_rows<Element>(scores, shared_.k, warp_row_, stage.q, lane_);
    dp.clear();
    multiply_by_rows<Element>(dp, shared_.v, warp_row_, stage.dout, lane_);
    auto& p = scores;
    auto& ds = dp;
    scores_.by_cap([&](auto cap) {
#pragma unroll
      for (int block = 0; block < p.kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = column_of_lane(lane_, block) + i % 2;
          float slope;
          const float exponent =
              scores_.exponent(cap, scores.values[block][i], stage.reference[column], stage.strip,
                               column, warp_row_ + row_of_lane(lane_, i / 2), slope);
          p.values[block][i] = ptx::exp2_approximate(exponent);
          ds.values[block][i] =
              p.values[block][i] * (dp.values[block][i] - stage.delta[column]) * slope;
        }
      }
    });
    if (!full) hide(p, ds, stage);
    multiply_by_columns<Element>(dv_, p, stage.dout, lane_);
    multiply_by_columns<Element>(dk_, ds, stage.q, lane_);
  }

  LONGATTN_DEVICE void hide(RegisterTile<kConfig.query_tile>& p,
                            RegisterTile<kConfig.query_tile>& ds,
                            const typename Shared::Stage& stage) const {
#pragma unroll
    for (int block = 0; block < p.kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int32_t key = work_.first_row + warp_row_ + row_of_lane(lane_, i / 2);
        if (is_visible(stage.bounds[column_of_lane(lane_, block) + i % 2], key)) continue;
        p.values[block][i] = 0.0f;
        ds.values[block][i] = 0.0f;
      }
    }
  }

  // Hands over what has been summed up, and starts anew.
  LONGATTN_DEVICE void leave() {
    const float scale = static_cast<float>(problem_.softmax_scale);
    leave(dk_, problem_.dk, parameters_.sinks.dk, problem_.head_dim, scale);
    leave(dv_, problem_.dv, parameters_.sinks.dv, problem_.value_dim, 1.0f);
  }

  LONGATTN_DEVICE void leave(RegisterTile<kConfig.head_dim>& sums, const TensorView& gradient,
                             float* workspace, int dim, float scale) {
    const Sequence& sequence = shared_.sequence;
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t key = work_.first_row + warp_row_ + row_of_lane(lane_, half);
      const int width = key < sequence.k_len ? dim : 0;
      if (slice_ == 0) {
        const int64_t row = sequence.k_row + key * sequence.row_step;
        add_half(row_pointer<float>(gradient, sequence.batch, row, work_.head), width, sums, half,
                 scale, lane_);
      } else {
        store_half(workspace + workspace_row(key) * dim, width, sums, half, scale, lane_);
      }
    }
    sums.clear();
  }

  LONGATTN_DEVICE int64_t workspace_row(int32_t key) const {
    const int64_t block =
        ((slice_ - 1) * parameters_.sinks.sequences + work_.sequence) * problem_.kv_heads;
    return (block + work_.head) * parameters_.sinks.rows + key;
  }

  Shared& shared_;
  const BackwardParameters& parameters_;
  const BackwardProblem& problem_;
  const Scores scores_;
  const Work work_;  // head: of k and v; first_row: the tile's first key
  const int32_t slice_;
  const int thread_, lane_, warp_row_;
  int32_t head_;  // of q
  const HeadBand* band_;
  RegisterTile<kConfig.head_dim> dk_, dv_;
};

// See forward/sm80/kernel.cuh on the index.
template <int kIndex, class Element, class Scores>
__global__ void __launch_bounds__(kKeyGradientConfigs[kIndex].threads(),
                                  kKeyGradientConfigs[kIndex].min_blocks)
    key_gradient_kernel(const __grid_constant__ BackwardParameters parameters) {
  constexpr BackwardConfig kConfig = kKeyGradientConfigs[kIndex];
  const BackwardProblem& problem = parameters.problem;
  const int32_t slices = parameters.sinks.count;
  const Work work = work_at(problem.layout, tiled_keys(problem.layout, kConfig.key_tile),
                            problem.kv_heads, blockIdx.x / slices, /*last_tile_first=*/false);
  const int32_t slice = blockIdx.x % slices;
  if (slice > 0 && work.first_row >= parameters.sinks.rows) return;  // tiles without sinks
  KeyGradientBlock<kConfig, Element, Scores> block(
      ptx::shared_memory<KeyGradientShared<kConfig, Scores>>(), parameters, work, slice);
  block.run();
}

inline constexpr int kAddSlicesThreads = 128;  // one a dim

// dk and dv of the sink rows take in the shares of slices 1, 2, ... in this order.
static __global__ void __launch_bounds__(kAddSlicesThreads)
    add_slices_kernel(const __grid_constant__ BackwardParameters parameters) {
  const BackwardProblem& problem = parameters.problem;
  const SinkSlices& sinks = parameters.sinks;
  const int64_t key = blockIdx.x % sinks.rows;
  const auto kv_head = static_cast<int32_t>(blockIdx.x / sinks.rows % problem.kv_heads);
  const int64_t index = blockIdx.x / sinks.rows / problem.kv_heads;
  const Sequence sequence =
      sequence_at(problem.layout, index, kv_head * (problem.q_heads / problem.kv_heads), problem.q_heads);
  if (key >= sequence.k_len) return;
  const int64_t row = sequence.k_row + key * sequence.row_step;
  const auto add = [&](const TensorView& gradient, const float* workspace, int dim) {
    const int column = threadIdx.x;
    if (column >= dim) return;
    float* target = row_pointer<float>(gradient, sequence.batch, row, kv_head) + column;
    float sum = ptx::load_global_float(target);
    for (int32_t slice = 1; slice < sinks.count; ++slice) {
      const int64_t block = ((slice - 1) * sinks.sequences + index) * problem.kv_heads + kv_head;
      sum += ptx::load_global_float(workspace + (block * sinks.rows + key) * dim + column);
    }
    ptx::store_global_float(target, sum);
  };
  add(problem.dk, sinks.dk, problem.head_dim);
  add(problem.dv, sinks.dv, problem.value_dim);
}

}  // namespace longattn::cuda
