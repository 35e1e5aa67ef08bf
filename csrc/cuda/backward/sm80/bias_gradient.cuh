// SPDX-License-Identifier: BSD-3-Clause
// The gradient of a bias, by distance: a thread block owns the distances of one diagonal of tiles in
// one head, and walks along it through the sequences of its share, so that each sum is made in one
// order. Distances of neighbouring diagonals overlap: even and odd ones are launched in turn.
#pragma once

#include <ptx/barrier.h>

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/diagonal.h"
#include "cuda/scores/general.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/store.h"
#include "cuda/tiles/tensor_rows.h"
#include "cuda/tiles/visibility.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

// A block of the launch: diagonals first, first + 2, ... of each head and share.
struct BiasGradientWork {
  int64_t first_diagonal;
  int64_t diagonals;
};

template <BackwardConfig kConfig>
struct BiasGradientShared {
  SharedTile<kConfig.query_tile, kConfig.head_dim> q;
  SharedTile<kConfig.query_tile, kConfig.head_dim> dout;
  SharedTile<kConfig.key_tile, kConfig.head_dim> k;
  SharedTile<kConfig.key_tile, kConfig.head_dim> v;
  GeneralScores::Strip<kConfig.query_tile, kConfig.key_tile> strip;
  // One column more than there are keys: a diagonal then steps through all banks.
  float gradients[kConfig.query_tile][kConfig.key_tile + 1];
  Sequence sequence;
};

template <BackwardConfig kConfig, class Element>
class BiasGradientBlock {
 public:
  using Shared = BiasGradientShared<kConfig>;
  static constexpr int kThreads = kConfig.threads();
  static constexpr int kTile = kConfig.query_tile;
  static constexpr int kDiagonals = 2 * kTile - 1;
  static_assert(kConfig.key_tile == kTile && kTile == kConfig.warps * kWarpRows);
  static_assert(kDiagonals <= kThreads, "a thread owns a distance");

  LONGATTN_DEVICE BiasGradientBlock(Shared& shared, const BackwardParameters& parameters,
                                    int64_t diagonal, int32_t head, int64_t share)
      : shared_(shared),
        problem_(parameters.problem),
        band_(parameters.bands.bands[parameters.bands.band_of_head[head]]),
        scores_(parameters.scores, parameters.problem),
        diagonal_(diagonal),
        share_(share),
        head_(head),
        kv_head_(kv_head_of(parameters.problem, head)),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run() {
    const int64_t sequences = sequences_of(problem_.layout);
    for (int64_t s = share_; s < sequences; s += problem_.bias_gradient.shares) {
      if (thread_ == 0) {
        shared_.sequence = sequence_at(problem_.layout, s, head_, problem_.q_heads);
      }
      ptx::synchronize_block();  // every thread sees the sequence
      walk();
      ptx::synchronize_block();  // no thread still reads it
    }
    add();
  }

 private:
  // Pairs of a row of the sequence and a key that is `diagonal_` tiles behind it.
  LONGATTN_DEVICE void walk() {
    const Sequence& sequence = shared_.sequence;
    const int64_t end = end_of_keys_at(band_, diagonal_ * kTile - (kTile - 1),
                                       diagonal_ * kTile + kTile - 1, sequence.k_len);
    const int64_t behind = sequence.diagonal - diagonal_ * kTile;  // of the first key, from its row
    const int64_t first = larger(ceil_divide(-behind - (kTile - 1), kTile), 0);
    for (int64_t row = first * kTile; row < sequence.q_len && row + behind < end; row += kTile) {
      visit(static_cast<int32_t>(row), row + behind);
    }
  }

  LONGATTN_DEVICE void visit(int32_t first_row, int64_t tile_begin) {
    const Sequence& sequence = shared_.sequence;
    const int32_t last_row = smaller(first_row + kTile, sequence.q_len) - 1;
    const int32_t tile_end = static_cast<int32_t>(smaller(tile_begin + kTile, sequence.k_len));
    const int32_t first_key = static_cast<int32_t>(larger(tile_begin, 0));
    if (!any_is_seen(bounds_at(band_, sequence, first_row), bounds_at(band_, sequence, last_row),
                     first_key, tile_end)) {
      return;  // the same for all threads
    }
    load(first_row, first_key);
    compute(first_row, first_key, tile_end);
    ptx::synchronize_block();  // all gradients of the tile are there
    // Column 0 of the tile is `shift` keys into the diagonal.
    sum_up(static_cast<int>(first_key - tile_begin));
    ptx::synchronize_block();  // the next tile may replace everything
  }

  LONGATTN_DEVICE void load(int32_t first_row, int32_t first_key) {
    const Sequence& sequence = shared_.sequence;
    const auto queries = [&](const TensorView& view, int dim) {
      return query_rows<const Element>(view, sequence, head_, first_row, dim);
    };
    const auto keys = [&](const TensorView& view, int dim) {
      return key_rows<const Element>(view, sequence, kv_head_, first_key, dim);
    };
    copy_rows_async<kThreads>(shared_.q, queries(problem_.q, problem_.head_dim), thread_);
    copy_rows_async<kThreads>(shared_.dout, queries(problem_.dout, problem_.value_dim), thread_);
    copy_rows_async<kThreads>(shared_.k, keys(problem_.k, problem_.head_dim), thread_);
    copy_rows_async<kThreads>(shared_.v, keys(problem_.v, problem_.value_dim), thread_);
    ptx::cp_async_commit();
    scores_.fill(shared_.strip, sequence, head_, first_row, first_key, thread_, kThreads);
    ptx::cp_async_wait<0>();
    ptx::synchronize_block();  // the copies of all threads have landed
  }

  // gradients = p * (dO V^T - delta); the bias joins the score behind the cap.
  LONGATTN_DEVICE void compute(int32_t first_row, int32_t first_key, int32_t tile_end) {
    RegisterTile<kTile> products, dp;
    products.clear();
    multiply_by_rows<Element>(products, shared_.q, warp_row_, shared_.k, lane_);
    dp.clear();
    multiply_by_rows<Element>(dp, shared_.dout, warp_row_, shared_.v, lane_);
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int row_of_tile = warp_row_ + row_of_lane(lane_, half);
      const int32_t row = first_row + row_of_tile;
      const bool exists = row < shared_.sequence.q_len;
      const RowBounds bounds =
          exists ? bounds_at(band_, shared_.sequence, row) : RowBounds{0, 0, 0, 0};
      const float reference = exists ? weight_reference(row_number(problem_.lse, row)) : INFINITY;
      const float delta = exists ? row_number(problem_.delta, row) : 0.0f;
#pragma unroll
      for (int block = 0; block < products.kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int column = column_of_lane(lane_, block) + i;
          const int32_t key = first_key + column;
          float slope;
          const float exponent = scores_.exponent(products.values[block][2 * half + i], reference,
                                                  shared_.strip, row_of_tile, column, slope);
          const float gradient =
              ptx::exp2_approximate(exponent) * (dp.values[block][2 * half + i] - delta);
          const bool counts = is_visible(bounds, key) && key < tile_end;
          ptx::store_shared_float(ptx::shared_address(&shared_.gradients[row_of_tile][column]),
                                  counts ? gradient : 0.0f);
        }
      }
    }
  }

  LONGATTN_DEVICE float row_number(const RowView& view, int32_t row) const {
    const Sequence& sequence = shared_.sequence;
    return ptx::load_global_float(
        row_pointer<float>(view, sequence.batch, stored_query(sequence, row), head_));
  }

  // Thread t sums up row - column = t - (kTile - 1), columns counted from the diagonal's first key.
  LONGATTN_DEVICE void sum_up(int shift) {
    if (thread_ >= kDiagonals) return;
    for (int row = 0; row < kTile; ++row) {
      const int column = row - (thread_ - (kTile - 1)) - shift;
      if (column < 0 || column >= kTile) continue;
      sum_ += ptx::load_shared_float(ptx::shared_address(&shared_.gradients[row][column]));
    }
  }

  LONGATTN_DEVICE void add() const {
    const BiasGradient& gradient = problem_.bias_gradient;
    const int64_t step = problem_.layout.split == Split::kDilated ? problem_.layout.rate : 1;
    const int64_t distance = (diagonal_ * kTile + thread_ - (kTile - 1)) * step;
    const int64_t entry = distance - gradient.first_distance;
    if (thread_ >= kDiagonals || entry < 0 || entry >= gradient.span) return;
    float* target = static_cast<float*>(gradient.data) +
                    (share_ * problem_.q_heads + head_) * gradient.span + entry;
    ptx::store_global_float(target, ptx::load_global_float(target) + sum_);
  }

  Shared& shared_;
  const BackwardProblem& problem_;
  const HeadBand& band_;
  const GeneralScores scores_;
  const int64_t diagonal_, share_;
  const int32_t head_, kv_head_;
  const int thread_, lane_, warp_row_;
  float sum_ = 0.0f;
};

// See forward/sm80/kernel.cuh on the index.
template <int kIndex, class Element>
__global__ void __launch_bounds__(kQueryGradientConfigs[kIndex].threads())
    bias_gradient_kernel(const __grid_constant__ BackwardParameters parameters,
                         const BiasGradientWork work) {
  constexpr BackwardConfig kConfig = kQueryGradientConfigs[kIndex];
  const int64_t diagonal = work.first_diagonal + blockIdx.x % work.diagonals * 2;
  const int64_t rest = blockIdx.x / work.diagonals;
  const int32_t q_heads = parameters.problem.q_heads;
  BiasGradientBlock<kConfig, Element> block(ptx::shared_memory<BiasGradientShared<kConfig>>(),
                                            parameters, diagonal,
                                            static_cast<int32_t>(rest % q_heads), rest / q_heads);
  block.run();
}

}  // namespace longattn::cuda
