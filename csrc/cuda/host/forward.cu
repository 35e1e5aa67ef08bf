// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include <launch/launch.h>

#include "cuda/forward/sm80/kernel.cuh"
#include "cuda/host/dispatch.h"
#include "cuda/host/engine.h"
#include "cuda/host/grid.h"

namespace longattn::cuda {

namespace {

template <int kIndex, class Element, class Epilogue>
void launch_forward(const ForwardParameters& parameters, void* stream) {
  constexpr ForwardConfig kConfig = kForwardConfigs[kIndex];
  const SequenceLayout& layout = parameters.problem.layout;
  const int64_t slots = tile_slots(layout, tiled_queries(layout, kConfig.query_tile));
  const unsigned grid = checked_grid(slots * parameters.problem.q_heads);
  if (grid == 0) return;
  launch("forward", &forward_kernel<kIndex, Element, Epilogue>, grid, kConfig.threads(),
              sizeof(ForwardShared<kConfig>), stream, parameters);
}

}  // namespace

void forward(const ForwardProblem& problem, const BandTable& bands, ElementType type,
             void* stream) {
  ForwardParameters parameters{problem, bands, static_cast<float>(problem.softmax_scale * kLog2E)};
  with_element(type, [&]<class Element>(std::type_identity<Element>) {
    with_config(kForwardConfigs, std::max(problem.head_dim, problem.value_dim), [&](auto index) {
      constexpr int kIndex = decltype(index)::value;
      if (problem.merge) {
        launch_forward<kIndex, Element, MergeEpilogue>(parameters, stream);
      } else {
        launch_forward<kIndex, Element, StoreEpilogue<Element>>(parameters, stream);
      }
    });
  });
}

}  // namespace longattn::cuda
