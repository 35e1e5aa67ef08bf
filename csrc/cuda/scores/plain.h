// SPDX-License-Identifier: BSD-3-Clause
// Scores that are products of q and k times a positive scale. The scale is left to the exponent,
// where it costs nothing: weights are 2^(product * factor - reference).
#pragma once

#include <ptx/device.h>

#include "cuda/scores/parameters.h"
#include "cuda/tiles/register_tile.h"

namespace longattn::cuda {

class PlainScores {
 public:
  LONGATTN_DEVICE explicit PlainScores(const ScoreParameters& parameters)
      : scale_(parameters.scale) {}

  template <int kColumns>
  LONGATTN_DEVICE void apply(RegisterTile<kColumns>&) const {}

  // > 0: the largest product has the largest score, and -inf stays -inf.
  LONGATTN_DEVICE float factor() const { return scale_; }

 private:
  float scale_;
};

}  // namespace longattn::cuda
