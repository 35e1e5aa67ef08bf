// SPDX-License-Identifier: BSD-3-Clause
// Scores by any rule: capped, biased, of any scale. They are made in log2 units before anything
// asks for the largest one.
#pragma once

#include <type_traits>

#include <ptx/math.h>

#include "cuda/scores/parameters.h"
#include "semantics/sequence.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

// How far scores are capped: not at all; so that 2e-7 of the cap is no error to speak of; so that
// it would be.
enum class Cap { kNone, kSmall, kLarge };

template <Cap kCap>
using CapConstant = std::integral_constant<Cap, kCap>;

class GeneralScores {
 public:
  // The bias of a tile of queries and one of keys, log2 units: it depends on row - key alone.
  template <int kQueries, int kKeys>
  struct Strip {
    static constexpr int kEntries = kQueries + kKeys - 1;
    static constexpr int kFirstPair = kKeys - 1;  // the entry of row 0 and key 0
    using Part = float;                           // that one thread brings

    LONGATTN_DEVICE void put(Part part, int thread) {
      if (thread < kEntries) values[thread] = part;
    }

    float values[kEntries];
  };

  LONGATTN_DEVICE GeneralScores(const ScoreParameters& parameters, const Problem& problem)
      : bias_(problem.bias), scale_(parameters.scale), cap_(parameters.cap) {}

  // This thread's part of the strip; all threads bring theirs, and a barrier shows it to everyone.
  template <class Strip>
  LONGATTN_DEVICE typename Strip::Part read(const Sequence& sequence, int32_t head,
                                            int32_t first_row, int32_t first_key,
                                            int thread) const {
    const int64_t first = sequence.diagonal + first_row - first_key - Strip::kFirstPair;
    const int64_t distance = (first + thread) * sequence.row_step;
    return bias_at<float>(bias_, head, distance) * static_cast<float>(kLog2E);
  }

  // visit(CapConstant): a tile is worked on by one rule, and asks for it once.
  template <class Visit>
  LONGATTN_DEVICE void by_cap(Visit visit) const {
    if (cap_ == 0.0f) return visit(CapConstant<Cap::kNone>());
    if (cap_ < kLargeCap) return visit(CapConstant<Cap::kSmall>());
    visit(CapConstant<Cap::kLarge>());
  }

  // Of row `row` and key `key` of their tiles.
  template <Cap kCap, class Strip>
  LONGATTN_DEVICE float score(CapConstant<kCap> cap, float product, const Strip& strip, int row,
                              int key) const {
    float slope;
    return score(cap, product, strip, row, key, slope);
  }

  LONGATTN_DEVICE static constexpr float factor() { return 1.0f; }

  template <Cap kCap, class Strip>
  LONGATTN_DEVICE float exponent(CapConstant<kCap> cap, float product, float reference,
                                 const Strip& strip, int row, int key, float& slope) const {
    return score(cap, product, strip, row, key, slope) - reference;
  }

 private:
  static constexpr float kLargeCap = 128.0f;  // log2 units

  template <Cap kCap, class Strip>
  LONGATTN_DEVICE float score(CapConstant<kCap>, float product, const Strip& strip, int row,
                              int key, float& slope) const {
    const float bias = strip.values[Strip::kFirstPair + row - key];
    slope = 1.0f;
    if constexpr (kCap == Cap::kNone) return fmaf(product, scale_, bias);
    const float t = tanh_of<kCap == Cap::kLarge>(product * scale_);
    slope = fmaf(-t, t, 1.0f);
    return fmaf(cap_, t, bias);
  }

  // tanh(exponent * ln 2 / 2).
  template <bool kAlsoRelative>
  LONGATTN_DEVICE static float tanh_of(float exponent) {
    // tanh x = 1 - 2 / (e^(2 x) + 1): the instruction for tanh errs by 5e-4, this by 2e-7.
    const float denominator = ptx::exp2_approximate(exponent) + 1.0f;
    const float t = fmaf(-2.0f, ptx::reciprocal_approximate(denominator), 1.0f);
    if constexpr (!kAlsoRelative) return t;
    // Where scores are small beside the cap: the best polynomial for exponents up to 1, which errs
    // by 2e-7 of the result.
    const float square = exponent * exponent;
    float series = fmaf(square, -2.94580095e-05f, 6.64870546e-04f);
    series = fmaf(square, series, -1.38756689e-02f);
    series = fmaf(square, series, 3.46573591e-01f);
    return fabsf(exponent) < 1.0f ? exponent * series : t;
  }

  const Bias& bias_;
  float scale_;
  float cap_;
};

}  // namespace longattn::cuda
