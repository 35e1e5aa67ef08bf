// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <stdexcept>

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

// A slice has about as many queries as see a key of an ordinary window, and enough of them that
// shares take at most a quarter of the memory of dk and dv.
constexpr int32_t kQueriesOfSlice = 2048;
constexpr int32_t kQueriesOfSliceByRow = 4;
constexpr int kKeyTile = kKeyGradientConfigs[0].key_tile;
static_assert(kKeyTile == kKeyGradientConfigs[1].key_tile && kKeyTile % kKeysOfAddSlices == 0);

// Leading rows that queries see however far away they are, rounded up to whole tiles.
int32_t sink_rows(const Problem& problem, const BandTable& bands) {
  int64_t rows = 0;
  for (int32_t head = 0; head < problem.q_heads; ++head) {
    const HeadBand& band = bands.bands[bands.band_of_head[head]];
    if (band.soft_left != kUnbounded) rows = std::max<int64_t>(rows, band.sink_end);
    for (int i = 0; i < band.term_count; ++i) {
      if (band.terms[i].kind == TermKind::kLeading) rows = std::max<int64_t>(rows, band.terms[i].a);
    }
  }
  rows = ceil_divide(std::min(rows, longest_k_len(problem.layout)), kKeyTile) * kKeyTile;
  return static_cast<int32_t>(rows);
}

struct SlicePlan {
  SinkSlices slices;
  int64_t numbers;  // in the workspace
};

bool has_packed_bias(const Problem& problem) {
  return problem.layout.split == Split::kPacked && problem.bias.kind != BiasKind::kNone;
}

constexpr int64_t kNumbersOfLongest = sizeof(LongestSequence) / sizeof(float);

// Depends on the problem alone, so that sums are always made in one order.
SlicePlan plan_slices(const Problem& problem, const BandTable& bands, float* workspace) {
  const SequenceLayout& layout = problem.layout;
  const int32_t rows = sink_rows(problem, bands);
  const int64_t queries = std::max<int64_t>(kQueriesOfSlice, int64_t{kQueriesOfSliceByRow} * rows);
  if (rows == 0 || longest_q_len(layout) <= queries) return {};
  const auto of_slice = static_cast<int32_t>(queries);
  const int64_t blocks = tile_slots(layout, tiled_queries(layout, of_slice)) * problem.kv_heads *
                         (rows / kKeyTile);
  const int64_t share_rows = share_count(layout, of_slice) * problem.kv_heads * rows;
  return {{rows, of_slice, blocks, workspace, workspace + share_rows * problem.head_dim},
          share_rows * (problem.head_dim + problem.value_dim)};
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
  static_assert(kQueriesOfSlice % kConfig.query_tile == 0 && kKeyTile % kConfig.query_tile == 0);
  const int64_t slots = tile_slots(layout, tiled_keys(layout, kConfig.key_tile));
  const unsigned grid =
      checked_grid(parameters.sinks.blocks + slots * parameters.problem.kv_heads);
  if (grid == 0) return;
  launch("key_gradient", &key_gradient_kernel<kIndex, Element, Scores>, grid, kConfig.threads(),
              sizeof(KeyGradientShared<kConfig, Scores>), stream, parameters);
}

constexpr int64_t kMaxBiasShares = 8;  // each costs a number for every head and distance
constexpr int64_t kQueriesOfBiasShare = 1024;
// Of packed sequences nobody knows how many diagonals they cross: blocks walk over all that there
// may be. This many are enough to keep a GPU busy.
constexpr int64_t kBlocksOfPackedBias = 8192;

// Sequences as long as there are enough of them, else slices of their queries too.
int64_t bias_shares(const SequenceLayout& layout) {
  const int64_t sequences = std::clamp<int64_t>(sequences_of(layout), 1, kMaxBiasShares);
  const int64_t slices = ceil_divide(longest_q_len(layout), kQueriesOfBiasShare);
  return sequences * std::clamp<int64_t>(slices, 1, kMaxBiasShares / sequences);
}

void launch_longest_sequence(const SequenceLayout& layout, LongestSequence* longest,
                             void* stream) {
  launch("longest_sequence", &longest_sequence_kernel, 1, kLongestSequenceThreads,
         sizeof(LongestSequenceShared), stream, layout, longest);
}

// Even diagonals, then odd ones: those of one launch share no distance.
template <int kIndex, class Element>
void launch_bias_gradient(const BackwardParameters& parameters, const LongestSequence* longest,
                          void* stream) {
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
    int64_t walkers = ceil_divide(std::max<int64_t>(diagonals.end - begin, 0), 2);
    const int64_t rest = problem.q_heads * gradient.shares;
    if (longest != nullptr) walkers = std::min(walkers, ceil_divide(kBlocksOfPackedBias, rest));
    const unsigned grid = checked_grid(walkers * rest);
    if (grid == 0) continue;
    launch("bias_gradient", &bias_gradient_kernel<kIndex, Element>, grid, kConfig.threads(),
           sizeof(BiasGradientShared<kConfig>), stream, parameters,
           BiasGradientWork{begin, diagonals.end, walkers, sequence_shares, slice_tiles, longest});
  }
}

void launch_add_slices(const BackwardParameters& parameters, void* stream) {
  const SinkSlices& sinks = parameters.sinks;
  if (sinks.blocks == 0) return;
  const unsigned grid = checked_grid(sequences_of(parameters.problem.layout) *
                                     parameters.problem.kv_heads * sinks.rows / kKeysOfAddSlices);
  launch("add_slices", &add_slices_kernel, grid, kAddSlicesThreads, 0, stream, parameters);
}

}  // namespace

BackwardSizes backward_sizes(const Problem& problem, const BandTable& bands) {
  const int64_t numbers = plan_slices(problem, bands, nullptr).numbers;
  return {numbers + (has_packed_bias(problem) ? kNumbersOfLongest : 0),
          bias_shares(problem.layout)};
}

void backward(const BackwardProblem& problem, const BandTable& bands, ElementType type,
              void* stream) {
  if (problem.writes) throw std::invalid_argument("the CUDA engine adds to gradients");
  auto* const workspace = static_cast<float*>(problem.workspace);
  const SlicePlan plan = plan_slices(problem, bands, workspace);
  LongestSequence* longest = nullptr;
  if (problem.bias_gradient.data != nullptr && has_packed_bias(problem)) {
    longest = reinterpret_cast<LongestSequence*>(workspace + plan.numbers);
    launch_longest_sequence(problem.layout, longest, stream);
  }
  const BackwardParameters parameters{problem, bands, score_parameters(problem), plan.slices};
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
      launch_bias_gradient<decltype(index)::value, Element>(parameters, longest, stream);
    });
  });
  launch_add_slices(parameters, stream);
}

}  // namespace longattn::cuda
