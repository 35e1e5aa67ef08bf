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

// Even diagonals, then odd ones: those of one launch share no distance.
template <int kIndex, class Element>
void launch_bias_gradient(const BackwardParameters& parameters, void* stream) {
  constexpr BackwardConfig kConfig = kQueryGradientConfigs[kIndex];
  const BackwardProblem& problem = parameters.problem;
  const BiasGradient& gradient = problem.bias_gradient;
  const int64_t step = problem.layout.split == Split::kDilated ? problem.layout.rate : 1;
  const DiagonalRange range =
      diagonal_range(floor_divide(gradient.first_distance, step),
                     ceil_divide(gradient.first_distance + gradient.span - 1, step),
                     kConfig.query_tile);
  for (int64_t first = range.begin; first < std::min(range.begin + 2, range.end); ++first) {
    const BiasGradientWork work{first, ceil_divide(range.end - first, 2)};
    const unsigned grid = checked_grid(work.diagonals * problem.q_heads * gradient.shares);
    if (grid == 0) continue;
    launch("bias_gradient", &bias_gradient_kernel<kIndex, Element>, grid, kConfig.threads(),
           sizeof(BiasGradientShared<kConfig>), stream, parameters, work);
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
  constexpr int64_t kMaxBiasShares = 8;  // each costs a number for every head and distance
  return {rows * (problem.head_dim + problem.value_dim),
          std::clamp<int64_t>(sequences_of(problem.layout), 1, kMaxBiasShares)};
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
    with_config(kQueryGradientConfigs, dim, [&](auto index) {
      launch_bias_gradient<decltype(index)::value, Element>(parameters, stream);
    });
  });
  launch_add_slices(parameters, stream);
}

}  // namespace longattn::cuda
