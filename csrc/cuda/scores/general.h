// SPDX-License-Identifier: BSD-3-Clause
// Scores by any rule: capped, biased, of any scale. They are made in log2 units before anything
// asks for the largest one.
#pragma once

#include <ptx/math.h>

#include "cuda/scores/parameters.h"
#include "semantics/sequence.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

class GeneralScores {
 public:
  // The bias of a tile of queries and one of keys, log2 units: it depends on row - key alone.
  template <int kQueries, int kKeys>
  struct Strip {
    static constexpr int kEntries = kQueries + kKeys - 1;
    static constexpr int kFirstPair = kKeys - 1;  // the entry of row 0 and key 0

    float values[kEntries];
  };

  LONGATTN_DEVICE GeneralScores(const ScoreParameters& parameters, const Problem& problem)
      : bias_(problem.bias), scale_(parameters.scale), cap_(parameters.cap) {}

  // By all threads of the block; a barrier must follow before anyone reads.
  template <class Strip>
  LONGATTN_DEVICE void fill(Strip& strip, const Sequence& sequence, int32_t head,
                            int32_t first_row, int32_t first_key, int thread, int threads) const {
    if (bias_.kind == BiasKind::kNone) return;
    const int64_t diagonal = sequence.diagonal + first_row - first_key - Strip::kFirstPair;
    for (int entry = thread; entry < Strip::kEntries; entry += threads) {
      const int64_t distance = (diagonal + entry) * sequence.row_step;
      strip.values[entry] = bias_at<float>(bias_, head, distance) * static_cast<float>(kLog2E);
    }
  }

  // Of row `row` and key `key` of their tiles.
  template <class Strip>
  LONGATTN_DEVICE float score(float product, const Strip& strip, int row, int key) const {
    float slope;
    return score(product, strip, row, key, slope);
  }

  LONGATTN_DEVICE static constexpr float factor() { return 1.0f; }

  template <class Strip>
  LONGATTN_DEVICE float exponent(float product, float reference, const Strip& strip, int row,
                                 int key, float& slope) const {
    return score(product, strip, row, key, slope) - reference;
  }

 private:
  template <class Strip>
  LONGATTN_DEVICE float score(float product, const Strip& strip, int row, int key,
                              float& slope) const {
    float value = product * scale_;
    slope = 1.0f;
    if (cap_ > 0.0f) {
      // tanh x = 1 - 2 / (e^(2 x) + 1): the instruction for tanh errs by 5e-4, this by 2e-7.
      const float t = fmaf(-2.0f, ptx::reciprocal_approximate(ptx::exp2_approximate(value) + 1.0f),
                           1.0f);
      value = cap_ * t;
      slope = fmaf(-t, t, 1.0f);
    }
    if (bias_.kind != BiasKind::kNone) value += strip.values[Strip::kFirstPair + row - key];
    return value;
  }

  const Bias& bias_;
  float scale_;
  float cap_;
};

}  // namespace longattn::cuda
