// SPDX-License-Identifier: BSD-3-Clause
// The algebra of (max, sum): how partial softmaxes merge and finish. The rule for rows that see
// nothing (out 0, lse -inf) lives here and nowhere else.
#pragma once

#include <cmath>
#include <type_traits>

#include "semantics/portable.h"

namespace longattn {

inline constexpr double kLog2E = 1.4426950408889634074;
inline constexpr double kLn2 = 0.6931471805599453094;

// Scores are in log2 units: a weight is 2^(score - max).
template <class Real>
struct SoftmaxState {
  Real max;  // -inf: nothing seen yet
  Real sum;  // at least 1 as soon as a key is seen
};

// What a finished row needs: the factor of its accumulated output, and its natural-log lse.
template <class Real>
struct Finished {
  Real out_factor;
  Real lse;
};

// Factors of two finished partials of the same query, and the lse of their union.
template <class Real>
struct MergeWeights {
  Real first;
  Real second;
  Real lse;
};

inline namespace LONGATTN_ISA {

// The exponent's reference: 0 for an empty row, so that -inf - reference is -inf and never NaN.
template <class Real>
LONGATTN_HOST_DEVICE Real exponent_reference(Real max) {
  return max == -INFINITY ? Real(0) : max;
}

template <class Real>
LONGATTN_HOST_DEVICE MergeWeights<Real> merge_weights(Real first_lse, Real second_lse) {
  // Both are asked: a NaN compares with nothing, and must not pass for an empty partial.
  if (first_lse == -INFINITY && second_lse == -INFINITY) {
    return {Real(0), Real(0), Real(-INFINITY)};
  }
  const Real max = first_lse < second_lse ? second_lse : first_lse;
  const Real first = std::exp(first_lse - max);
  const Real second = std::exp(second_lse - max);
  const Real sum = first + second;
  return {first / sum, second / sum, max + std::log(sum)};
}

// `sink`: the natural logit of a further key whose value is 0; -inf: none.
template <class Real>
LONGATTN_HOST_DEVICE Finished<Real> finish(const SoftmaxState<Real>& state,
                                           std::type_identity_t<Real> sink) {
  // Not `max == -inf`: a NaN score can leave the maximum there, and must not pass for an empty row.
  if (state.sum == Real(0)) return {Real(0), sink};
  const double log2_sum = std::log2(static_cast<double>(state.sum));
  const double lse = (static_cast<double>(state.max) + log2_sum) * kLn2;
  if (sink == -INFINITY) return {Real(1) / state.sum, static_cast<Real>(lse)};
  // Relative to lse, which is exact only here: a rounded one would shift the weights.
  const MergeWeights<Real> weights = merge_weights(Real(0), static_cast<Real>(sink - lse));
  return {weights.first / state.sum, static_cast<Real>(lse + weights.lse)};
}

// The lse that makes 2^(score - lse) the weight of a row; +inf for an empty row: all weights 0.
template <class Real>
LONGATTN_HOST_DEVICE Real weight_reference(Real lse) {
  return lse == -INFINITY ? Real(INFINITY) : static_cast<Real>(lse * kLog2E);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
