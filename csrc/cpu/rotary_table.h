// SPDX-License-Identifier: BSD-3-Clause
// Cosines and sines of one row: angles are reduced in double precision, then evaluated in lanes.
#pragma once

#include <algorithm>

#include "semantics/rotary_angle.h"

namespace longattn::inline LONGATTN_ISA {

// Of |angle| <= pi / 4.
template <class Lanes>
struct SineCosine {
  using Vector = typename Lanes::Vector;
  using Polynomial = SineAndCosine<typename Lanes::Scalar>;

  Vector sine;
  Vector cosine;

  static SineCosine of(Vector angle) {
    const Vector square = Lanes::multiply(angle, angle);
    Vector sine = Lanes::broadcast(Polynomial::kSine[Polynomial::kTerms - 1]);
    Vector cosine = Lanes::broadcast(Polynomial::kCosine[Polynomial::kTerms - 1]);
    for (int i = Polynomial::kTerms - 2; i >= 0; --i) {
      sine = Lanes::multiply_add(sine, square, Lanes::broadcast(Polynomial::kSine[i]));
      cosine = Lanes::multiply_add(cosine, square, Lanes::broadcast(Polynomial::kCosine[i]));
    }
    sine = Lanes::multiply_add(Lanes::multiply(sine, square), angle, angle);
    cosine = Lanes::multiply_add(cosine, square, Lanes::broadcast(-0.5));
    cosine = Lanes::multiply_add(cosine, square, Lanes::broadcast(1));
    return {sine, cosine};
  }
};

// The table of a row: `stride` cosines, then as many sines. Lane i of a half-split layout is pair
// i; interleaved, lanes 2 i and 2 i + 1 are, with sines (-s, s).
template <class Lanes>
class RotaryTable {
 public:
  using Real = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;

  // `direction` is -1 for the inverse rotation, whose growth stays the same.
  RotaryTable(const RotaryProblem& problem, double direction)
      : problem_(problem),
        pairs_(problem.rotary_dim / 2),
        stride_(padded(problem.interleaved ? 2 * pairs_ : pairs_)),
        direction_(static_cast<Real>(direction)) {}

  int stride() const { return stride_; }
  size_t numbers() const { return 2 * static_cast<size_t>(stride_); }

  void fill(ExactPosition position, double growth_sign, Real* table) const {
    alignas(64) Real angles[kMaxPairs], cosines[kMaxPairs], sines[kMaxPairs];
    reduce(position, angles, cosines, sines);
    for (int i = pairs_; i < padded(pairs_); ++i) angles[i] = cosines[i] = sines[i] = 0;
    const Vector factor = Lanes::broadcast(static_cast<Real>(problem_.attention_factor));
    for (int i = 0; i < pairs_; i += Lanes::kWidth) {
      const auto rest = SineCosine<Lanes>::of(Lanes::load(angles + i));
      // Cosines and sines of quarters are 0, 1 or -1: the sums below are exact.
      const Vector c = Lanes::load(cosines + i), s = Lanes::load(sines + i);
      const Vector cosine =
          Lanes::subtract(Lanes::multiply(c, rest.cosine), Lanes::multiply(s, rest.sine));
      const Vector sine = Lanes::multiply_add(s, rest.cosine, Lanes::multiply(c, rest.sine));
      Lanes::store(cosines + i, Lanes::multiply(cosine, factor));
      Lanes::store(sines + i, Lanes::multiply(sine, factor));
    }
    if (problem_.growth != nullptr) grow(position, growth_sign, angles, cosines, sines);
    lay_out(cosines, sines, table);
  }

 private:
  static int padded(int count) {
    return (count + Lanes::kWidth - 1) / Lanes::kWidth * Lanes::kWidth;
  }

  void reduce(ExactPosition position, Real* __restrict angles, Real* __restrict cosines,
              Real* __restrict sines) const {
    const double* __restrict high = problem_.turns_high;
    const double* __restrict low = problem_.turns_low;
    const int pairs = pairs_;
    for (int i = 0; i < pairs; ++i) {
      const ReducedAngle angle = reduced_angle(position, high[i], low[i]);
      angles[i] = static_cast<Real>(angle.rest);
      cosines[i] = static_cast<Real>(cosine_of_quarters(angle.quarters));
      sines[i] = static_cast<Real>(sine_of_quarters(angle.quarters));
    }
  }

  // Exponents are split in double: only the fraction of one is small enough for a float.
  void grow(ExactPosition position, double sign, Real* fractions, Real* cosines,
            Real* sines) const {
    const double distance = sign * ((position.high - problem_.centre) + position.low);
    for (int i = 0; i < pairs_; ++i) {
      // Beyond any range all the same, whatever the centre that the caller chose.
      const double exponent = std::clamp(distance * problem_.growth[i], -5000.0, 5000.0);
      const double whole = std::rint(exponent);
      const Real power = static_cast<Real>(std::ldexp(1.0, static_cast<int>(whole)));
      fractions[i] = static_cast<Real>(exponent - whole);
      cosines[i] *= power;
      sines[i] *= power;
    }
    for (int i = 0; i < pairs_; i += Lanes::kWidth) {
      const Vector factor = Lanes::exp2(Lanes::load(fractions + i));
      Lanes::store(cosines + i, Lanes::multiply(Lanes::load(cosines + i), factor));
      Lanes::store(sines + i, Lanes::multiply(Lanes::load(sines + i), factor));
    }
  }

  void lay_out(const Real* __restrict cosines, const Real* __restrict sines,
               Real* __restrict table) const {
    const int pairs = pairs_;
    Real* __restrict second = table + stride_;
    if (!problem_.interleaved) {
      for (int i = 0; i < pairs; ++i) table[i] = cosines[i];
      for (int i = 0; i < pairs; ++i) second[i] = direction_ * sines[i];
      return;
    }
    for (int i = 0; i < pairs; ++i) {
      table[2 * i] = table[2 * i + 1] = cosines[i];
      second[2 * i] = -direction_ * sines[i];
      second[2 * i + 1] = direction_ * sines[i];
    }
  }

  const RotaryProblem& problem_;
  int pairs_;
  int stride_;
  Real direction_;
};

}  // namespace longattn::inline LONGATTN_ISA
