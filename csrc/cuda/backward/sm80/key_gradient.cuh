// SPDX-License-Identifier: BSD-3-Clause
// dK and dV on mma.sync: a thread block owns a tile of keys and walks over the queries that see
// them, head after head of its group. Scores are transposed, [keys][queries], so that weights are
// operands of the next products without leaving the registers.
#pragma once

#include <ptx/barrier.h>

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/walk.h"
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
  KeyWork work;       // here because registers are short
  Sequence sequence;  // of the head at work
};

// The query tiles of one head that the work covers.
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

  LONGATTN_DEVICE KeyGradientBlock(Shared& shared, const BackwardParameters& parameters)
      : shared_(shared),
        parameters_(parameters),
        problem_(parameters.problem),
        scores_(parameters.scores, parameters.problem),
        work_(shared.work),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run(int64_t block) {
    if (thread_ == 0) {
      const KeyWork work = key_work_at(problem_.layout, parameters_.sinks, problem_.kv_heads,
                                       kConfig.key_tile, block);
      shared_.work = work;
    }
    ptx::synchronize_block();  // every thread sees the work
    if (!work_.exists) return;
    const bool views_differ = problem_.layout.split == Split::kDilated;
    const int32_t group = problem_.q_heads / problem_.kv_heads;
    dk_.clear();
    dv_.clear();
    for (int32_t i = 0; i < group; ++i) {
      select_head(work_.head * group + i);
      if (work_.first_key < shared_.sequence.k_len) {
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
      const Sequence sequence =
          sequence_at(problem_.layout, work_.sequence, head, problem_.q_heads);
      shared_.sequence = sequence;
    }
    ptx::synchronize_block();  // every thread sees the sequence of this head
  }

  LONGATTN_DEVICE void load_keys() {
    copy_rows_async<kThreads>(
        shared_.k,
        cuda::key_rows<const Element>(problem_.k, shared_.sequence, work_.head, work_.first_key,
                                      problem_.head_dim),
        thread_);
    copy_rows_async<kThreads>(
        shared_.v,
        cuda::key_rows<const Element>(problem_.v, shared_.sequence, work_.head, work_.first_key,
                                      problem_.value_dim),
        thread_);
  }

  LONGATTN_DEVICE QueryTileRange query_tiles_of_work() const {
    const TileInterval interval = query_tiles(*band_, shared_.sequence, work_.first_key,
                                              kConfig.key_tile, kConfig.query_tile);
    const auto begin =
        static_cast<int32_t>(larger(interval.begin, work_.first_query / kConfig.query_tile));
    const auto end =
        static_cast<int32_t>(smaller(interval.end, work_.end_query / kConfig.query_tile));
    return {begin, static_cast<int32_t>(larger(begin, end)), interval};
  }

  LONGATTN_DEVICE void visit_queries() {
    const QueryTileRange tiles = query_tiles_of_work();
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
        query_rows<const Element>(problem_.q, shared_.sequence, head_, first_row,
                                  problem_.head_dim),
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
                                                                  work_.first_key, thread_)};
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
        const int32_t key = work_.first_key + warp_row_ + row_of_lane(lane_, i / 2);
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
      const int32_t key = work_.first_key + warp_row_ + row_of_lane(lane_, half);
      const int width = key < sequence.k_len ? dim : 0;
      if (work_.share < 0) {
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
    return (work_.share * problem_.kv_heads + work_.head) * parameters_.sinks.rows + key;
  }

  Shared& shared_;
  const BackwardParameters& parameters_;
  const BackwardProblem& problem_;
  const Scores scores_;
  const KeyWork& work_;
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
  KeyGradientBlock<kConfig, Element, Scores> block(
      ptx::shared_memory<KeyGradientShared<kConfig, Scores>>(), parameters);
  block.run(blockIdx.x);
}

inline constexpr int kAddSlicesThreads = 128;  // one a dim
inline constexpr int kKeysOfAddSlices = 8;     // of a block

// dk and dv of the sink rows take in the shares of their sequence in order.
static __global__ void __launch_bounds__(kAddSlicesThreads)
    add_slices_kernel(const __grid_constant__ BackwardParameters parameters) {
  const BackwardProblem& problem = parameters.problem;
  const SinkSlices& sinks = parameters.sinks;
  const int32_t parts = sinks.rows / kKeysOfAddSlices;
  const auto first_key = static_cast<int32_t>(blockIdx.x % parts * kKeysOfAddSlices);
  const auto kv_head = static_cast<int32_t>(blockIdx.x / parts % problem.kv_heads);
  const int64_t index = blockIdx.x / parts / problem.kv_heads;
  const int64_t slices = slices_of(problem.layout, index, sinks.queries);
  const int64_t share = first_share(problem.layout, index, sinks.queries);
  const Sequence sequence = sequence_at(
      problem.layout, index, kv_head * (problem.q_heads / problem.kv_heads), problem.q_heads);
  const int column = threadIdx.x;
  const auto add = [&](const TensorView& gradient, const float* shares, int dim, int32_t key) {
    if (column >= dim) return;
    const int64_t row = sequence.k_row + key * sequence.row_step;
    float* target = row_pointer<float>(gradient, sequence.batch, row, kv_head) + column;
    float sum = ptx::load_global_float(target);
    for (int64_t slice = 1; slice < slices; ++slice) {
      const int64_t block = (share + slice - 1) * problem.kv_heads + kv_head;
      sum += ptx::load_global_float(shares + (block * sinks.rows + key) * dim + column);
    }
    ptx::store_global_float(target, sum);
  };
  if (slices < 2) return;
  const auto end = static_cast<int32_t>(smaller(first_key + kKeysOfAddSlices, sequence.k_len));
  for (int32_t key = first_key; key < end; ++key) {
    add(problem.dk, sinks.dk, problem.head_dim, key);
    add(problem.dv, sinks.dv, problem.value_dim, key);
  }
}

}  // namespace longattn::cuda
