// SPDX-License-Identifier: BSD-3-Clause
// Scores that are products of q and k times a scale. The scale is left to the exponent, where it
// costs nothing: weights are 2^(product * factor - reference).
#pragma once

#include <ptx/device.h>

#include "cuda/scores/parameters.h"
#include "semantics/sequence.h"

namespace longattn::cuda {

class PlainScores {
 public:
  template <int kQueries, int kKeys>
  struct Strip {  // see general.h
    static constexpr int kEntries = 0;
    struct Part {};

    LONGATTN_DEVICE void put(Part, int) {}
  };

  LONGATTN_DEVICE PlainScores(const ScoreParameters& parameters, const Problem&)
      : scale_(parameters.scale) {}

  template <class Strip>
  LONGATTN_DEVICE auto read(const Sequence&, int32_t, int32_t, int32_t, int) const {
    return typename Strip::Part{};
  }

  struct NoCap {};

  template <class Visit>
  LONGATTN_DEVICE void by_cap(Visit visit) const {
    visit(NoCap());
  }

  template <class Strip>
  LONGATTN_DEVICE float score(NoCap, float product, const Strip&, int, int) const {
    return product;
  }

  // Takes scores to log2 units. The online softmax wants it positive: then the largest product has
  // the largest score, and -inf stays -inf.
  LONGATTN_DEVICE float factor() const { return scale_; }

  // The exponent of a weight, from the product; `slope` becomes d score / d scaled product.
  template <class Strip>
  LONGATTN_DEVICE float exponent(NoCap, float product, float reference, const Strip&, int, int,
                                 float& slope) const {
    slope = 1.0f;
    return fmaf(product, scale_, -reference);
  }

 private:
  float scale_;
};

}  // namespace longattn::cuda
