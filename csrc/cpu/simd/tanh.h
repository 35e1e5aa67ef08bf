// SPDX-License-Identifier: BSD-3-Clause
// tanh in any lanes. Float: x P(x^2) / Q(x^2), fitted for the least relative error (4e-7 as
// evaluated); beyond kTanhEnd the nearest float is 1.
#pragma once

#include <cmath>
#include <type_traits>

#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

inline constexpr float kTanhEnd = 9.01f;
inline constexpr float kTanhNumerator[] = {1.0f, 0.13380374f, 0.0034948143f, 2.0596322e-05f,
                                           1.3336909e-08f};
inline constexpr float kTanhDenominator[] = {1.0f, 0.4671369f, 0.02587404f, 0.0003284368f,
                                             7.769309e-07f};

template <class Lanes>
typename Lanes::Vector polynomial(typename Lanes::Vector x, const float (&coefficients)[5]) {
  auto value = Lanes::broadcast(coefficients[4]);
#pragma GCC unroll 4
  for (int i = 3; i >= 0; --i) {
    value = Lanes::multiply_add(value, x, Lanes::broadcast(coefficients[i]));
  }
  return value;
}

template <class Lanes>
typename Lanes::Vector tanh(typename Lanes::Vector x) {
  using Real = typename Lanes::Scalar;
  if constexpr (std::is_same_v<Real, double>) {
    alignas(64) double lanes[Lanes::kWidth];
    Lanes::store(lanes, x);
    for (double& lane : lanes) lane = std::tanh(lane);
    return Lanes::load(lanes);
  } else {
    // maximum() hands on its second operand where one is NaN.
    const auto end = Lanes::broadcast(-kTanhEnd);
    const auto low = Lanes::subtract(Lanes::zero(), Lanes::maximum(end, x));
    const auto negative = Lanes::maximum(end, low);
    const auto square = Lanes::multiply(negative, negative);
    const auto numerator =
        Lanes::multiply(negative, polynomial<Lanes>(square, kTanhNumerator));
    const auto quotient =
        Lanes::divide(numerator, polynomial<Lanes>(square, kTanhDenominator));
    return Lanes::subtract(Lanes::zero(), quotient);
  }
}

}  // namespace longattn::inline LONGATTN_ISA
