// SPDX-License-Identifier: BSD-3-Clause
// Tables of cosines and sines, and the positions under them, against integers of 128 bits and long
// double, for each instruction set.
#include <cmath>
#include <cstdio>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cpu/detect/detect.h"
#include "cpu/rotary_table.h"

#define LONGATTN_QUOTE(path) #path
#define LONGATTN_ISA_HEADER(row) LONGATTN_QUOTE(cpu/isa/row.h)
#include LONGATTN_ISA_HEADER(LONGATTN_ISA)
#define LONGATTN_NAME(row) LONGATTN_QUOTE(row)

namespace {

using namespace longattn;
using Wide = unsigned __int128;

int failures = 0;

void expect_near(const char* what, long double got, long double wanted, long double tolerance) {
  if (std::fabs(got - wanted) <= tolerance) return;
  if (++failures < 20) std::printf("FAILED: %s: off by %Lg\n", what, got - wanted);
}

// Turns a position below 1, in units of 2^-128, and the same as two doubles.
struct Frequency {
  Wide turns;
  double high;
  double low;
};

Frequency frequency_of(double high, double low) {
  const auto in_units = [](double value) {
    const double upper = std::floor(std::ldexp(value, 64));
    return (static_cast<Wide>(static_cast<__int128>(upper)) << 64) +
           static_cast<Wide>(static_cast<__int128>(std::ldexp(std::ldexp(value, 64) - upper, 64)));
  };
  return {in_units(high) + in_units(low), high, low};
}

// position * turns modulo 1, in radians; products of 128 bits wrap around by themselves.
long double angle_of(int64_t position, const Frequency& frequency) {
  const Wide fraction = static_cast<Wide>(static_cast<__int128>(position)) * frequency.turns;
  return std::ldexp(static_cast<long double>(fraction), -128) * 2 * 3.14159265358979323846264L;
}

std::vector<Frequency> frequencies() {
  std::vector<Frequency> result;
  for (int i = 0; i < 37; ++i) {  // no multiple of any vector
    const double high = 0.15915494309189535 * std::pow(10.0, -i / 8.0);
    result.push_back(frequency_of(high, std::ldexp(high, -54) * (i % 2 ? 0.31 : -0.77)));
  }
  return result;
}

template <class Lanes>
void check_table(bool interleaved, double tolerance) {
  using Real = typename Lanes::Scalar;
  const std::vector<Frequency> all = frequencies();
  const int pairs = static_cast<int>(all.size());
  std::vector<double> high, low;
  for (const Frequency& frequency : all) {
    high.push_back(frequency.high);
    low.push_back(frequency.low);
  }
  RotaryProblem problem{};
  problem.rotary_dim = 2 * pairs;
  problem.interleaved = interleaved;
  problem.attention_factor = 1.0;
  problem.turns_high = high.data();
  problem.turns_low = low.data();
  for (double direction : {1.0, -1.0}) {
    const RotaryTable<Lanes> table(problem, direction);
    std::vector<Real> numbers(table.numbers());
    std::vector<int64_t> positions;
    for (int power = 0; power < 51; ++power) {
      for (int64_t sign : {1, -1}) positions.push_back(sign * ((int64_t{1} << power) + power));
    }
    for (int64_t position = 0; position < 2000; ++position) positions.push_back(position);
    for (int64_t position : positions) {
      table.fill(exact_position(position), 1.0, numbers.data());
      for (int i = 0; i < pairs; ++i) {
        const long double angle = angle_of(position, all[i]);
        const long double cosine = std::cos(angle), sine = direction * std::sin(angle);
        const Real* sines = numbers.data() + table.stride();
        if (interleaved) {
          expect_near("cosine", numbers[2 * i], cosine, tolerance);
          expect_near("cosine of the other", numbers[2 * i + 1], cosine, tolerance);
          expect_near("minus sine", sines[2 * i], -sine, tolerance);
          expect_near("sine of the other", sines[2 * i + 1], sine, tolerance);
        } else {
          expect_near("cosine", numbers[i], cosine, tolerance);
          expect_near("sine", sines[i], sine, tolerance);
        }
      }
    }
  }
}

template <class Precision>
void check_tables_of() {
  if constexpr (!std::is_void_v<Precision>) {
    using Lanes = typename Precision::RowLanes;
    const bool is_double = std::is_same_v<typename Lanes::Scalar, double>;
    for (bool interleaved : {false, true})
      check_table<Lanes>(interleaved, is_double ? 7e-16 : 9e-8);
  }
}

// high + low is the position, to the last bit.
void check_positions() {
  for (int power = 0; power < 62; ++power) {
    for (int64_t offset : {-3, 0, 1}) {
      for (int64_t sign : {1, -1}) {
        const int64_t position = sign * ((int64_t{1} << power) + offset);
        const ExactPosition exact = exact_position(position);
        const auto sum = static_cast<__int128>(exact.high) + static_cast<__int128>(exact.low);
        if (sum != position && ++failures < 20) std::printf("FAILED: position 2^%d\n", power);
      }
    }
  }
}

void check_maps() {
  const auto is = [](ExactPosition got, double high, double low) {
    if ((got.high != high || got.low != low) && ++failures < 20) {
      std::printf("FAILED: map: got %.17g + %.17g, wanted %.17g + %.17g\n", got.high, got.low, high,
                  low);
    }
  };
  const ExactPosition p = exact_position(49);
  is(mapped({1.0, 1, 0.0, false}, p), 49.0, 0.0);
  is(mapped({1.0, 49, 0.0, true}, p), 1.0, 0.0);
  is(mapped({1.0, 50, 0.0, true}, p), 0.0, 0.0);
  is(mapped({0.0, 1, 7.5, false}, p), 7.5, 0.0);
  is(mapped({-1.0, 2, 0.25, true}, p), -24.75, 0.0);
  is(mapped({1.0, 1, std::ldexp(1.0, 60), false}, p), std::ldexp(1.0, 60), 49.0);
  is(mapped({1.0, 3, 0.0, true}, exact_position(3 * ((int64_t{1} << 58) + 1))), std::ldexp(1.0, 58),
     1.0);
  const ExactPosition third = mapped({1.0, 3, 0.0, false}, exact_position(1));
  // A third is 0x1.5555...p-2: what high leaves out is a third of its last place.
  is(third, 1.0 / 3.0, std::ldexp(1.0 / 3.0, -54));
}

}  // namespace

int main() {
  constexpr std::string_view name = LONGATTN_NAME(LONGATTN_ISA);
  if (!cpu::processor_runs(name)) {
    std::printf("this processor cannot run %s\n", name.data());
    return 77;
  }
  check_tables_of<Isa::Float32>();
  check_tables_of<Isa::Float64>();
  check_tables_of<Isa::BFloat16>();
  check_positions();
  check_maps();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
