// SPDX-License-Identifier: BSD-3-Clause
// From a position to an angle of at most an eighth of a turn, and its sine and cosine.
#pragma once

#include <cmath>

#include "semantics/rotary_position.h"

namespace longattn {

inline constexpr double kTwoPi = 6.283185307179586;

// For |a| <= pi / 4, least error: sin(a) = a + a^3 (s0 + s1 a^2 + ...) to 4e-9 and 4e-18,
// cos(a) = 1 - a^2 / 2 + a^4 (c0 + c1 a^2 + ...) to 1e-10 and 5e-20.
template <class Real>
struct SineAndCosine;

template <>
struct SineAndCosine<float> {
  static constexpr int kTerms = 3;
  static constexpr float kSine[] = {-0.16666655242443085f, 0.008332177996635437f,
                                    -0.0001951729936990887f};
  static constexpr float kCosine[] = {0.04166664555668831f, -0.001388736767694354f,
                                      2.4438453692710027e-05f};
};

template <>
struct SineAndCosine<double> {
  static constexpr int kTerms = 6;
  static constexpr double kSine[] = {-0.16666666666666632,    0.008333333333322425,
                                     -0.00019841269829817297, 2.7557313695339517e-06,
                                     -2.5050758669776238e-08, 1.5896828820293753e-10};
  static constexpr double kCosine[] = {0.0416666666666666,     -0.001388888888887414,
                                       2.4801587289492362e-05, -2.7557314355385795e-07,
                                       2.0875723702603643e-09, -1.135967074213781e-11};
};

// An angle is this many quarters of a turn, -2 to 2, plus the rest in radians, |rest| <= pi / 4.
struct ReducedAngle {
  double quarters;
  double rest;
};

inline namespace LONGATTN_ISA {

// Right to 2^-53 of a turn below positions of 2^50, to 2^-44 up to 2^62. Every product is exact or
// far behind the point, so that it does not matter which of them the compiler contracts.
LONGATTN_HOST_DEVICE ReducedAngle reduced_angle(ExactPosition position, double turns_high,
                                                double turns_low) {
  const double whole = std::rint(position.high * turns_high);
  double turns = std::fma(position.high, turns_high, -whole) +
                 std::fma(position.high, turns_low, position.low * turns_high);
  turns -= std::rint(turns);
  const double quarters = std::rint(4.0 * turns);
  return {quarters, std::fma(quarters, -0.25, turns) * kTwoPi};
}

// Cosine and sine of a number of quarters.
LONGATTN_HOST_DEVICE double cosine_of_quarters(double quarters) {
  return 1.0 - std::fabs(quarters);
}

LONGATTN_HOST_DEVICE double sine_of_quarters(double quarters) {
  return quarters * (2.0 - std::fabs(quarters));
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
