// SPDX-License-Identifier: BSD-3-Clause
// The running softmax of a warp's 16 rows: each lane keeps the state of its two rows.
#pragma once

#include <ptx/math.h>
#include <ptx/shuffle.h>

#include "cuda/tiles/register_tile.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

// Over the four lanes that share a row.
LONGATTN_DEVICE float maximum_of_row(float value) {
  value = fmaxf(value, ptx::shuffle_xor(value, 1));
  return fmaxf(value, ptx::shuffle_xor(value, 2));
}

LONGATTN_DEVICE float sum_of_row(float value) {
  value += ptx::shuffle_xor(value, 1);
  return value + ptx::shuffle_xor(value, 2);
}

class OnlineSoftmax {
 public:
  LONGATTN_DEVICE OnlineSoftmax() {
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      max_[half] = -INFINITY;
      sum_[half] = 0.0f;
    }
  }

  // Turns scores into weights and shrinks `out` to the new maximum. `factor` > 0 takes scores to
  // log2 units, within the exponent's multiply-add; it is the same in every call.
  template <int kKeys, int kDim>
  LONGATTN_DEVICE void update(RegisterTile<kKeys>& scores, RegisterTile<kDim>& out, float factor) {
    float reference[kRowsOfLane], shrink[kRowsOfLane];
#pragma unroll
    for (int half = 0; half < kRowsOfLane; ++half) {
      float max = max_[half];
#pragma unroll
      for (int block = 0; block < RegisterTile<kKeys>::kBlocks; ++block) {
        max = fmaxf(max, fmaxf(scores.values[block][2 * half], scores.values[block][2 * half + 1]));
      }
      const float old_max = in_log2_units(max_[half], factor);
      max_[half] = maximum_of_row(max);
      reference[half] = exponent_reference(in_log2_units(max_[half], factor));
      shrink[half] = ptx::exp2_approximate(old_max - reference[half]);
      sum_[half] *= shrink[half];
    }
#pragma unroll
    for (int block = 0; block < RegisterTile<kDim>::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out.values[block][i] *= shrink[i / 2];
    }
#pragma unroll
    for (int block = 0; block < RegisterTile<kKeys>::kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& score = scores.values[block][i];
        score = ptx::exp2_approximate(fmaf(score, factor, -reference[i / 2]));
        sum_[i / 2] += score;
      }
    }
  }

  LONGATTN_DEVICE Finished<float> finish_row(int half, float factor, float sink) const {
    const float max = in_log2_units(max_[half], factor);
    return finish(SoftmaxState<float>{max, sum_of_row(sum_[half])}, sink);
  }

 private:
  // Rounded by itself: were it contracted with the subtraction from a maximum, a maximum that stays
  // would shrink `out` by its rounding error in every tile.
  LONGATTN_DEVICE static float in_log2_units(float max, float factor) {
    constexpr float kLargest = 3.4028235e38f;  // an overflow must not look like a row without keys
    return fminf(ptx::multiply(max, factor), kLargest);
  }

  float max_[kRowsOfLane];  // of scores as they come
  float sum_[kRowsOfLane];  // of this lane's columns alone
};

}  // namespace longattn::cuda
