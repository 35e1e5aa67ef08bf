// SPDX-License-Identifier: BSD-3-Clause
// Scores by any rule: they are made in log2 units before anything asks for the largest one.
#pragma once

#include <ptx/device.h>

#include "cuda/scores/parameters.h"
#include "cuda/tiles/register_tile.h"

namespace longattn::cuda {

class GeneralScores {
 public:
  LONGATTN_DEVICE explicit GeneralScores(const ScoreParameters& parameters)
      : scale_(parameters.scale) {}

  template <int kColumns>
  LONGATTN_DEVICE void apply(RegisterTile<kColumns>& products) const {
#pragma unroll
    for (int block = 0; block < products.kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) products.values[block][i] *= scale_;
    }
  }

  LONGATTN_DEVICE static constexpr float factor() { return 1.0f; }

 private:
  float scale_;
};

}  // namespace longattn::cuda
