// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include <launch/launch.h>

#include "cuda/backward/sm80/bias_gradient.cuh"
#include "cuda/backward/sm80/key_gradient.cuh"
#include "cuda/backward/sm80/query_gradient.cuh"
#include "cuda/host/dispatch.h"
#include "cuda/host/engine.h"
#include "cuda/host/grid.h"
#include "cuda/host/scores.h"

namespace longattn::cuda {

namespace {

// A slice has about as many queries as see a key of an ordinary window.
constexpr int64_t kQueriesOfSlice = 2048;
constexpr int64_t kMaxSlices = 32;
constexpr int kKeyTile = kKeyGradientConfigs[0].key_tile;
static_assert(kKeyTile == kKeyGradientConfigs[1].key_tile);

int32_t sink_rows(const Problem& problem, const BandTable& bands) {
  int32_t rows = 0;
  for (int32_t head = 0; head < problem.q_heads; ++head) {
    const HeadBand& band = bands.bands[bands.band_of_head[head]];
    if (band.soft_left != kUnbounded) rows = std::max(rows, band.sink_end);
  }
  const int64_t longest = longest_k_len(problem.layout);
  return static_cast<int32_t>(ceil_divide(std::min<int64_t>(rows, longest), kKeyTile) * kKeyTile);
}

// Depends on the problem alone, so that sums are always made in one order.
SinkSlices plan_slices(const Problem& problem, const BandTable& bands, float* workspace) {
  const int32_t rows = sink_rows(problem, bands);
  const int64_t wanted = ceil_divide(longest_q_len(problem.layout), kQueriesOfSlice);
  const int64_t count = rows == 0 ? 1 : std::clamp<int64_t>(wanted, 1, kMaxSlices);
  const int64_t sequences = sequences_of(problem.layout);
  const int64_t shares = (count - 1) * sequences * problem.kv_heads * int64_t{rows};
  return {static_cast<int32_t>(count), rows, sequences, workspace,
          workspace + shares * problem.head_dim};
}

template <int kIndex, class Element, class Scores>
void launch_query_gradient(const BackwardParameters& parameters, void* stream) {
  constexpr BackwardConfig kConfig = kQueryGradientConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int64_t slots = tile_slots(layout, tiled_queries(layout, kConfig.query_tile));
  const unsigned grid = checked_grid(slots * parameters.problem.q_heads);
  if (grid == 0) return;
  launch("query_gradient", &query_gradient_kernel<kIndex, Element, Scores>, grid, kConfig.threads(),
              sizeof(QueryGradientShared<kConfig, Scores>), stream, parameters);
}

template <int kIndex, class Element, class Scores>
void launch_key_gradient(const BackwardParameters& parameters, void* stream) {
  constexpr BackwardConfig kConfig = kKeyGradientConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int64_t slots = tile_slots(layout, tiled_keys(layout, kConfig.key_tile));
  const unsigned grid =
      checked_grid(slots * parameters.problem.kv_heads * parameters.sinks.count);
  if (grid == 0) return;
  launch("key_gradient", &key_gradient_kernel<kIndex, Element, Scores>, grid, kConfig.threads(),
              sizeof(KeyGradientShared<kConfig, Scores>), stream, parameters);
}

constexpr int64_t kMaxBiasShares = 8;  // each costs a number for every head and distance
constexpr int64_t kQueriesOfBiasShare = 1024;

// Sequences as long as there are enough of them, else slices of their queries too.
int64_t bias_shares(const SequenceLayout& layout) {
  const int64_t sequences = std::clamp<int64_t>(sequences_of(layout), 1, kMaxBiasShares);
  const int64_t slices = ceil_divide(longest_q_len(layout), kQueriesOfBiasShare);
  return sequences * std::clamp<int64_t>(slices, 1, kMaxBiasShares / sequences);
}

// Even diagonals, then odd ones: those of one launch share no distance.
template <int kIndex, class Element>
void launch_bias_gradient(const BackwardParameters& parameters, void* stream) {
  constexpr BackwardConfig kConfig = kBiasGradientConfigs[kIndex];
  const BackwardProblem& problem = parameters.problem;
  const SequenceLayout& layout = problem.layout;
  const BiasGradient& gradient = problem.bias_gradient;
  const int64_t sequence_shares =
      std::clamp<int64_t>(sequences_of(layout), 1, std::min(gradient.shares, kMaxBiasShares));
  const int64_t tiles = ceil_divide(longest_q_len(layout), kConfig.query_tile);
  const int64_t slice_tiles = ceil_divide(tiles, gradient.shares / sequence_shares);
  int64_t first = gradient.first_distance, last = first + gradient.span - 1, step = 1;
  if (layout.split == Split::kDilated) {
    step = layout.rate;  // within a segment
    first = std::max(first, 1 - layout.segment_length);
    last = std::min(last, layout.segment_length - 1);
  }
  const Numbers diagonals =
      diagonals_of(ceil_divide(first, step), floor_divide(last, step), kConfig.query_tile);
  for (int64_t begin : {diagonals.begin, diagonals.begin + 1}) {
    const int64_t count = ceil_divide(std::max<int64_t>(diagonals.end - begin, 0), 2);
    const unsigned grid = checked_grid(count * problem.q_heads * gradient.shares);
    if (grid == 0) continue;
    launch("bias_gradient", &bias_gradient_kernel<kIndex, Element>, grid, kConfig.threads(),
           sizeof(BiasGradientShared<kConfig>), stream, parameters,
           BiasGradientWork{begin, count, sequence_shares, slice_tiles});
  }
}

void launch_add_slices(const BackwardParameters& parameters, void* stream) {
  const SinkSlices& sinks = parameters.sinks;
  if (sinks.count == 1) return;
  const unsigned grid = checked_grid(sequences_of(parameters.problem.layout) *
                                     parameters.problem.kv_heads * sinks.rows);
  if (grid == 0) return;
  launch("add_slices", &add_slices_kernel, grid, kAddSlicesThreads, 0, stream, parameters);
}

}  // namespace

BackwardSizes backward_sizes(const Problem& problem, const BandTable& bands) {
  const SinkSlices sinks = plan_slices(problem, bands, nullptr);
  const int64_t rows =
      (sinks.count - 1) * sequences_of(problem.layout) * problem.kv_heads * int64_t{sinks.rows};
  return {rows * (problem.head_dim + problem.value_dim), bias_shares(problem.layout)};
}

void backward(const BackwardProblem& problem, const BandTable& bands, ElementType type,
              void* stream) {
  const BackwardParameters parameters{problem, bands, score_parameters(problem),
                                      plan_slices(problem, bands, static_cast<float*>(problem.workspace))};
  const int dim = std::max(problem.head_dim, problem.value_dim);
  with_element(type, [&]<class Element>(std::type_identity<Element>) {
    with_scores(problem, ScaleOf::kAnySign, [&]<class Scores>(std::type_identity<Scores>) {
      with_config(kQueryGradientConfigs, dim, [&](auto index) {
        launch_query_gradient<decltype(index)::value, Element, Scores>(parameters, stream);
      });
      with_config(kKeyGradientConfigs, dim, [&](auto index) {
        launch_key_gradient<decltype(index)::value, Element, Scores>(parameters, stream);
      });
    });
    if (problem.bias_gradient.data == nullptr) return;
    with_config(kBiasGradientConfigs, dim, [&](auto index) {
      launch_bias_gradient<decltype(index)::value, Element>(parameters, stream);
    });
  });
  launch_add_slices(parameters, stream);
}

}  // namespace longattn::cuda
