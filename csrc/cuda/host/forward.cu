// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include <launch/launch.h>

#include "cuda/forward/sm80/kernel.cuh"
#include "cuda/host/dispatch.h"
#include "cuda/host/engine.h"
#include "cuda/host/grid.h"
#include "cuda/host/scores.h"

namespace longattn::cuda {

namespace {

template <int kIndex, class Element, class Epilogue, class Scores>
void launch_forward(const ForwardParameters& parameters, void* stream) {
  constexpr ForwardConfig kConfig = kForwardConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int64_t slots = tile_slots(layout, tiled_queries(layout, kConfig.query_tile));
  const unsigned grid = checked_grid(slots * parameters.problem.q_heads);
  if (grid == 0) return;
  launch("forward", &forward_kernel<kIndex, Element, Epilogue, Scores>, grid, kConfig.threads(),
              sizeof(ForwardShared<kConfig, Scores>), stream, parameters);
}

}  // namespace

void forward(const ForwardProblem& problem, const BandTable& bands, ElementType type,
             void* stream) {
  const ForwardParameters parameters{problem, bands, score_parameters(problem)};
  const auto launch_with = [&]<class Element, class Epilogue>(std::type_identity<Element>,
                                                              std::type_identity<Epilogue>) {
    with_config(kForwardConfigs, std::max(problem.head_dim, problem.value_dim), [&](auto index) {
      with_scores(problem, ScaleOf::kPositive, [&]<class Scores>(std::type_identity<Scores>) {
        launch_forward<decltype(index)::value, Element, Epilogue, Scores>(parameters, stream);
      });
    });
  };
  with_element(type, [&]<class Element>(std::type_identity<Element> element) {
    if (problem.merge) {
      launch_with(element, std::type_identity<MergeEpilogue>());
    } else {
      launch_with(element, std::type_identity<StoreEpilogue<Element>>());
    }
  });
}

}  // namespace longattn::cuda
