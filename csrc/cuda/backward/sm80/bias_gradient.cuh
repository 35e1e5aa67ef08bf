// SPDX-License-Identifier: BSD-3-Clause
// The gradient of a bias, by distance: a thread block owns the distances of one diagonal of tiles
// in one head, and walks along it through the queries of its share. In every tile a lane's places
// have the distances that they had in the one before: sums stay in registers until the end.
// Distances of neighbouring diagonals overlap: even and odd ones are launched in turn.
#pragma once

#include <ptx/barrier.h>
#include <ptx/memory.h>

#include "cuda/backward/parameters.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/schedule/diagonal.h"
#include "cuda/schedule/longest_sequence.cuh"
#include "cuda/schedule/walk.h"
#include "cuda/scores/general.h"
#include "cuda/tiles/matmul.h"
#include "cuda/tiles/store.h"
#include "cuda/tiles/tensor_rows.h"
#include "cuda/tiles/visibility.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

// Shares take sequences in turn; where there are less sequences than shares, they take slices of
// each sequence's queries.
struct BiasGradientWork {
  int64_t first_diagonal;
  int64_t end_diagonal;
  int64_t walkers;  // i works on diagonals first + 2 i, then on those 2 * walkers further, ...
  int64_t sequence_shares;
  int64_t slice_tiles;             // tiles of queries of a slice
  const LongestSequence* longest;  // packed only, else nullptr
};

// A tile of queries that sees keys beside it.
struct TileOnDiagonal {
  int32_t first_row;
  bool full;
};

template <BackwardConfig kConfig>
struct BiasGradientShared {
  // Two stages for each pair of tiles: queries and keys, then dO and values.
  struct Stage {
    SharedTile<kConfig.query_tile, kConfig.head_dim> left;
    SharedTile<kConfig.key_tile, kConfig.head_dim> right;
  };
  union {
    Stage stages[kStages];
    // One column more than there are keys: a diagonal then steps through all banks.
    float sums[kConfig.query_tile][kConfig.key_tile + 1];
  };
  GeneralScores::Strip<kConfig.query_tile, kConfig.key_tile> strip;
  Sequence sequence;
  bool found[kConfig.threads()];
  int32_t sequences[kConfig.threads()];
  TileOnDiagonal tiles[kConfig.threads()];
};

template <BackwardConfig kConfig, class Element>
class BiasGradientBlock {
 public:
  using Shared = BiasGradientShared<kConfig>;
  using Stage = typename Shared::Stage;
  static constexpr int kThreads = kConfig.threads();
  static constexpr int kTile = kConfig.query_tile;
  static constexpr int kDistances = 2 * kTile - 1;
  static_assert(kConfig.key_tile == kTile && kTile == kConfig.warps * kWarpRows);
  static_assert(kDistances <= kThreads, "a thread owns a distance");

  LONGATTN_DEVICE BiasGradientBlock(Shared& shared, const BackwardParameters& parameters,
                                    int64_t diagonal, int32_t head, int64_t share)
      : shared_(shared),
        problem_(parameters.problem),
        band_(parameters.bands.bands[parameters.bands.band_of_head[head]]),
        scores_(parameters.scores, parameters.problem),
        diagonal_(diagonal),
        share_(share),
        head_(head),
        thread_(threadIdx.x),
        lane_(threadIdx.x % kWarp),
        warp_row_(threadIdx.x / kWarp * kWarpRows) {}

  LONGATTN_DEVICE void run(const BiasGradientWork& work) {
    fill_strip();
    sums_.clear();
    const int64_t sequences = sequences_of(problem_.layout), step = work.sequence_shares;
    const int64_t first_tile = share_ / step * work.slice_tiles;
    const Numbers slice{first_tile, first_tile + work.slice_tiles};
    bool any = false;
    for (int64_t first = share_ % step; first < sequences; first += kThreads * step) {
      const int32_t count = find_sequences(first, step, sequences, slice);
      for (int32_t i = 0; i < count; ++i) {
        any |= visit_sequence(first + shared_.sequences[i] * step, slice);
      }
    }
    if (any) add();
  }

 private:
  // Threads that have found something, in order.
  struct Finders {
    int32_t before;  // this thread
    int32_t count;
  };

  LONGATTN_DEVICE Finders finders(bool found) {
    shared_.found[thread_] = found;
    ptx::synchronize_block();  // every thread has looked, and the last list is done with
    Finders all{0, 0};
    for (int other = 0; other < kThreads; ++other) {
      all.before += other < thread_ && shared_.found[other];
      all.count += shared_.found[other];
    }
    return all;
  }

  LONGATTN_DEVICE Sequence sequence_of(int64_t index) const {
    return sequence_at(problem_.layout, index, head_, problem_.q_heads);
  }

  // Each thread looks at one of the sequences first, first + step, ...; those that the diagonal
  // crosses are listed.
  LONGATTN_DEVICE int32_t find_sequences(int64_t first, int64_t step, int64_t end,
                                         const Numbers& slice) {
    const int64_t mine = first + thread_ * step;
    bool found = false;
    if (mine < end) {
      const Numbers tiles = tiles_of_slice(sequence_of(mine), slice);
      found = tiles.begin < tiles.end;
    }
    const Finders all = finders(found);
    if (found) shared_.sequences[all.before] = thread_;
    ptx::synchronize_block();  // the list of sequences is complete
    return all.count;
  }

  // Whether it shows anything on the diagonal.
  LONGATTN_DEVICE bool visit_sequence(int64_t index, const Numbers& slice) {
    if (thread_ == 0) {
      const Sequence sequence = sequence_of(index);
      shared_.sequence = sequence;
    }
    ptx::synchronize_block();  // every thread sees the sequence, and the strip
    const Numbers tiles = tiles_of_slice(shared_.sequence, slice);
    bool any = false;
    for (int64_t first = tiles.begin; first < tiles.end; first += kThreads) {
      const int32_t count = find_tiles(first, tiles.end);
      walk(count);
      any |= count > 0;
    }
    ptx::synchronize_block();  // no thread still reads the sequence or the list
    return any;
  }

  // The same for every pair of tiles on the diagonal.
  LONGATTN_DEVICE void fill_strip() {
    const int64_t step = problem_.layout.split == Split::kDilated ? problem_.layout.rate : 1;
    const Sequence steps{0, 0, 0, step, 0, 0, diagonal_ * kTile};
    using Strip = decltype(shared_.strip);
    shared_.strip.put(scores_.template read<Strip>(steps, head_, 0, 0, thread_), thread_);
  }

  LONGATTN_DEVICE Numbers tiles_of_slice(const Sequence& sequence, const Numbers& slice) const {
    const Numbers distances = distances_on(diagonal_, kTile);
    const int64_t end =
        end_of_keys_at(band_, distances.begin, distances.end - 1, sequence.k_len);
    const Numbers tiles = tiles_beside_keys(sequence, diagonal_, end, kTile);
    return {larger(tiles.begin, slice.begin), smaller(tiles.end, slice.end)};
  }

  // Each thread looks at one tile of [first, end); those that see something are listed in order.
  LONGATTN_DEVICE int32_t find_tiles(int64_t first, int64_t end) {
    const Sequence& sequence = shared_.sequence;
    const int64_t row = (first + thread_) * kTile;
    Coverage mine{false, false};
    if (first + thread_ < end) {
      const auto last_row = static_cast<int32_t>(smaller(row + kTile, sequence.q_len) - 1);
      mine = coverage(bounds_at(band_, sequence, static_cast<int32_t>(row)),
                      bounds_at(band_, sequence, last_row),
                      first_key_beside(sequence, diagonal_, row, kTile), kTile);
    }
    const Finders all = finders(mine.any);
    if (mine.any) shared_.tiles[all.before] = {static_cast<int32_t>(row), mine.all};
    ptx::synchronize_block();  // the list is complete
    return all.count;
  }

  LONGATTN_DEVICE void walk(int32_t count) {
    walk_tiles(
        2 * count,
        [&](int32_t step) { load(shared_.stages[step % kStages], step, shared_.tiles[step / 2]); },
        [](int32_t) {},
        [&](int32_t step) {
          visit(shared_.stages[step % kStages], step, shared_.tiles[step / 2]);
        });
    // The next walk fills stages, whatever it begins with, only behind find_tiles' barriers.
  }

  LONGATTN_DEVICE void load(Stage& stage, int32_t step, const TileOnDiagonal& tile) {
    const bool scores = step % 2 == 0;
    const Sequence& sequence = shared_.sequence;
    const int dim = scores ? problem_.head_dim : problem_.value_dim;
    const auto first_key =
        static_cast<int32_t>(first_key_beside(sequence, diagonal_, tile.first_row, kTile));
    copy_rows_async<kThreads>(
        stage.left,
        query_rows<const Element>(scores ? problem_.q : problem_.dout, sequence, head_,
                                  tile.first_row, dim),
        thread_);
    auto keys = key_rows<const Element>(scores ? problem_.k : problem_.v, sequence,
                                        kv_head_of(problem_, head_), first_key, dim);
    keys.begin = -first_key;
    copy_rows_async<kThreads>(stage.right, keys, thread_);
  }

  LONGATTN_DEVICE void visit(const Stage& stage, int32_t step, const TileOnDiagonal& tile) {
    if (step % 2 == 0) {
      products_.clear();
      multiply_by_rows<Element>(products_, stage.left, warp_row_, stage.right, lane_);
      return;
    }
    float reference[kRowsOfLane], delta[kRowsOfLane];
    load_rows(reference, delta, tile.first_row);
    RegisterTile<kTile> dp;
    dp.clear();
    multiply_by_rows<Element>(dp, stage.left, warp_row_, stage.right, lane_);
    auto& gradients = products_;
    scores_.by_cap([&](auto cap) {
#pragma unroll
      for (int block = 0; block < dp.kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float slope;  // not wanted: the bias joins the score behind the cap
          const float exponent = scores_.exponent(
              cap, products_.values[block][i], reference[i / 2], shared_.strip,
              warp_row_ + row_of_lane(lane_, i / 2), column_of_lane(lane_, block) + i % 2, slope);
          gradients.values[block][i] =
              ptx::exp2_approximate(exponent) * (dp.values[block][i] - delta[i / 2]);
        }
      }
    });
    if (!tile.full) hide(gradients, tile.first_row);
#pragma unroll
    for (int block = 0; block < dp.kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums_.values[block][i] += gradients.values[block][i];
    }
  }

  LONGATTN_DEVICE void load_rows(float (&reference)[kRowsOfLane], float (&delta)[kRowsOfLane],
                                 int32_t first_row) const {
    const Sequence& sequence = shared_.sequence;
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row + warp_row_ + row_of_lane(lane_, half);
      reference[half] = INFINITY;  // weights 0
      delta[half] = 0.0f;
      if (row >= sequence.q_len) continue;
      const int64_t stored_row = stored_query(sequence, row);
      reference[half] = weight_reference(ptx::load_global_float(
          row_pointer<float>(problem_.lse, sequence.batch, stored_row, head_)));
      delta[half] = ptx::load_global_float(
          row_pointer<float>(problem_.delta, sequence.batch, stored_row, head_));
    }
  }

  LONGATTN_DEVICE void hide(RegisterTile<kTile>& gradients, int32_t first_row) const {
    const Sequence& sequence = shared_.sequence;
    const auto first_key =
        static_cast<int32_t>(first_key_beside(sequence, diagonal_, first_row, kTile));
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      const int32_t row = first_row + warp_row_ + row_of_lane(lane_, half);
      const RowBounds bounds =
          row < sequence.q_len ? bounds_at(band_, sequence, row) : RowBounds{0, 0, 0, 0};
#pragma unroll
      for (int block = 0; block < gradients.kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int32_t key = first_key + column_of_lane(lane_, block) + i;
          if (!is_visible(bounds, key)) gradients.values[block][2 * half + i] = 0.0f;
        }
      }
    }
  }

  // Thread t adds up the places with row - column = t - (kTile - 1).
  LONGATTN_DEVICE void add() {
    sums_.for_each(lane_, [&](float& sum, int half, int column) {
      float* place = &shared_.sums[warp_row_ + row_of_lane(lane_, half)][column];
      ptx::store_shared_float(ptx::shared_address(place), sum);
    });
    ptx::synchronize_block();  // the sums of all lanes are there
    if (thread_ >= kDistances) return;
    float sum = 0.0f;
    for (int row = 0; row < kTile; ++row) {
      const int column = row + kTile - 1 - thread_;
      if (column < 0 || column >= kTile) continue;
      sum += ptx::load_shared_float(ptx::shared_address(&shared_.sums[row][column]));
    }
    const BiasGradient& gradient = problem_.bias_gradient;
    const int64_t step = problem_.layout.split == Split::kDilated ? problem_.layout.rate : 1;
    const int64_t distance = (diagonal_ * kTile + thread_ - (kTile - 1)) * step;
    const int64_t entry = distance - gradient.first_distance;
    if (entry < 0 || entry >= gradient.span) return;
    float* target = static_cast<float*>(gradient.data) +
                    (share_ * problem_.q_heads + head_) * gradient.span + entry;
    ptx::store_global_float(target, ptx::load_global_float(target) + sum);
  }

  Shared& shared_;
  const BackwardProblem& problem_;
  const HeadBand& band_;
  const GeneralScores scores_;
  const int64_t diagonal_, share_;
  const int32_t head_;
  const int thread_, lane_, warp_row_;
  RegisterTile<kTile> products_;
  RegisterTile<kTile> sums_;  // of p * (dO V^T - delta)
};

// See forward/sm80/kernel.cuh on the index.
template <int kIndex, class Element>
__global__ void __launch_bounds__(kBiasGradientConfigs[kIndex].threads(),
                                  kBiasGradientConfigs[kIndex].min_blocks)
    bias_gradient_kernel(const __grid_constant__ BackwardParameters parameters,
                         const __grid_constant__ BiasGradientWork work) {
  constexpr BackwardConfig kConfig = kBiasGradientConfigs[kIndex];
  const int64_t rest = blockIdx.x / work.walkers;
  const int32_t q_heads = parameters.problem.q_heads;
  for (int64_t diagonal = work.first_diagonal + blockIdx.x % work.walkers * 2;
       diagonal < work.end_diagonal; diagonal += 2 * work.walkers) {
    if (work.longest && !crosses(*work.longest, diagonal, kConfig.query_tile)) continue;
    BiasGradientBlock<kConfig, Element> block(
        ptx::shared_memory<BiasGradientShared<kConfig>>(), parameters, diagonal,
        static_cast<int32_t>(rest % q_heads), rest / q_heads);
    block.run(work);
  }
}

}  // namespace longattn::cuda
