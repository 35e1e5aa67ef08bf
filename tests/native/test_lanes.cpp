// SPDX-License-Identifier: BSD-3-Clause
// Every operation of the lanes contract against one number at a time, for each instruction set.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cpu/detect/detect.h"

#define LONGATTN_QUOTE(path) #path
#define LONGATTN_ISA_HEADER(row) LONGATTN_QUOTE(cpu/isa/row.h)
#include LONGATTN_ISA_HEADER(LONGATTN_ISA)
#define LONGATTN_NAME(row) LONGATTN_QUOTE(row)

namespace {

using namespace longattn;

int failures = 0;

template <class Real>
void expect(const char* what, Real got, Real wanted, double relative = 0) {
  const bool both_nan = std::isnan(got) && std::isnan(wanted);
  if (both_nan || got == wanted) return;
  if (std::fabs(got - wanted) <= relative * std::fabs(wanted)) return;
  if (++failures >= 20) return;
  std::printf("FAILED: %s: got %.9g, wanted %.9g\n", what, (double)got, (double)wanted);
}

template <class Lanes>
struct Check {
  using Real = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;
  static constexpr int kWidth = Lanes::kWidth;

  static Vector ramp(Real start, Real step) {
    Real values[kWidth];
    for (int i = 0; i < kWidth; ++i) values[i] = start + i * step;
    return Lanes::load(values);
  }

  static Real lane(Vector value, int i) {
    Real values[kWidth];
    Lanes::store(values, value);
    return values[i];
  }

  static void arithmetic() {
    const Vector a = ramp(-3, Real(0.75)), b = ramp(2, Real(-0.5)), c = ramp(1, 1);
    Real total = 0;
    for (int i = 0; i < kWidth; ++i) {
      const Real x = Real(-3) + i * Real(0.75), y = Real(2) - i * Real(0.5), z = Real(1) + i;
      expect("add", lane(Lanes::add(a, b), i), x + y);
      expect("subtract", lane(Lanes::subtract(a, b), i), x - y);
      expect("multiply", lane(Lanes::multiply(a, b), i), x * y);
      expect("multiply_add", lane(Lanes::multiply_add(a, b, c), i), x * y + z, 1e-6);
      expect("maximum", lane(Lanes::maximum(a, b), i), x > y ? x : y);
      expect("zero", lane(Lanes::zero(), i), Real(0));
      expect("broadcast", lane(Lanes::broadcast(5), i), Real(5));
      total += x;
    }
    expect("sum", Lanes::sum(a), total, 1e-6);
  }

  static void select() {
    const Vector key = Lanes::broadcast(4), begin = ramp(0, 1), end = ramp(3, 1);
    const Vector chosen =
        Lanes::select_in_range(Lanes::broadcast(1), key, begin, end, Lanes::broadcast(-1));
    for (int i = 0; i < kWidth; ++i) {
      expect("select_in_range", lane(chosen, i), Real(i <= 4 && 4 < 3 + i ? 1 : -1));
    }
  }

  static void transposition() {
    Vector rows[kWidth];
    for (int i = 0; i < kWidth; ++i) rows[i] = ramp(Real(i * kWidth), 1);
    Lanes::transpose(rows);
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < kWidth; ++j) {
        expect("transpose", lane(rows[i], j), Real(j * kWidth + i));
      }
    }
  }

  static void exponential() {
    const double tolerance = std::is_same_v<Real, double> ? 1e-15 : 3e-7;
    for (Real x = -140; x < 100; x += Real(0.0371)) {
      const Real wanted = x < -126 ? 0 : std::exp2(x);
      const Real got = lane(Lanes::exp2(Lanes::broadcast(x)), kWidth - 1);
      if (x < -126) {
        expect("exp2, tiny", Real(got < 1.2e-38), Real(1));
      } else {
        expect("exp2", got, wanted, tolerance);
      }
    }
    const Real infinity = std::numeric_limits<Real>::infinity();
    expect("exp2(-inf)", lane(Lanes::exp2(Lanes::broadcast(-infinity)), 0), Real(0));
    expect("exp2(0)", lane(Lanes::exp2(Lanes::zero()), 0), Real(1));
    expect("exp2(NaN)", lane(Lanes::exp2(Lanes::broadcast(std::nanf(""))), 0), Real(NAN));
  }

  // Partial loads and stores touch nothing beyond their count.
  template <class Element>
  static void partial() {
    for (int count = 0; count <= kWidth; ++count) {
      std::vector<Element> source(count);  // its end is checked by sanitizers
      for (int i = 0; i < count; ++i) narrow(Real(i + 1), source[i]);
      const Vector value = Lanes::load_first(source.data(), count);
      for (int i = 0; i < kWidth; ++i) {
        expect("load_first", lane(value, i), i < count ? Real(i + 1) : Real(0));
      }
      std::vector<Element> target(kWidth + 1);
      std::memset(target.data(), 0x55, target.size() * sizeof(Element));
      const std::vector<Element> untouched = target;
      Lanes::store_first(target.data(), value, count);
      const size_t written = count * sizeof(Element);
      const auto* bytes = reinterpret_cast<const char*>(target.data());
      const auto* before = reinterpret_cast<const char*>(untouched.data());
      const size_t size = target.size() * sizeof(Element);
      expect("store_first leaves the rest",
             Real(std::memcmp(bytes + written, before + written, size - written)), Real(0));
      expect("store_first writes", Real(std::memcmp(bytes, source.data(), written)), Real(0));
    }
  }

  // All 2^16 numbers there and back, and rounding of those halfway between two of them.
  template <class Element>
  static void conversions() {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      Element elements[kWidth], back[kWidth];
      for (Element& element : elements) element.bits = static_cast<uint16_t>(bits);
      const Vector wide = Lanes::load(elements);
      const float value = widen(elements[0]);
      expect("widening", lane(wide, kWidth - 1), Real(value));
      Lanes::store(back, wide);
      Element one;
      narrow(value, one);
      if (std::isnan(value)) {
        expect("a NaN stays NaN", widen(back[kWidth - 1]), NAN);
        expect("a NaN stays NaN", widen(one), NAN);
        continue;
      }
      expect("there and back", Real(back[kWidth - 1].bits), Real(bits));
      expect("there and back, scalar", Real(one.bits), Real(bits));
    }
    for (float value = 1e-8f; value < 7e4f; value *= 1.00037f) {
      Element vector[kWidth], scalar;
      Lanes::store(vector, Lanes::broadcast(value));
      narrow(value, scalar);
      expect("rounding", Real(vector[0].bits), Real(scalar.bits));
    }
  }

  static void neighbours() {
    const Vector swapped = Lanes::swap_neighbours(ramp(0, 1));
    for (int i = 0; i < kWidth; ++i) expect("swap_neighbours", lane(swapped, i), Real(i ^ 1));
  }

  // Two vectors side by side, as if they were stored one by one. Numbers below 2^-126 may be 0.
  template <class Element>
  static void two() {
    alignas(64) Element both[2 * kWidth + 1], single[2 * kWidth + 1];
    for (Real scale : {Real(1), Real(-0.3337), Real(1e-30), Real(3e4),
                       std::numeric_limits<Real>::infinity(),
                       std::numeric_limits<Real>::quiet_NaN()}) {
      const Vector first = ramp(scale, scale / 7), second = ramp(-scale, scale / 3);
      std::memset(both, 0x55, sizeof(both));
      std::memcpy(single, both, sizeof(both));
      Lanes::store(single, first);
      Lanes::store(single + kWidth, second);
      const auto compare = [&](const char* what) {
        for (int i = 0; i <= 2 * kWidth; ++i) {
          expect(what, Real(widen(both[i])), Real(widen(single[i])));
        }
      };
      Lanes::store_two(both, first, second);
      compare("store_two");
      if constexpr (Lanes::kStreams) {
        std::memset(both, 0x55, sizeof(both) - sizeof(Element));
        Lanes::stream_two(both, first, second);
        Lanes::end_streams();
        compare("stream_two");
      }
    }
  }

  static void run() {
    neighbours();
    two<Real>();
    arithmetic();
    select();
    transposition();
    exponential();
    partial<Real>();
    if constexpr (std::is_same_v<Real, float>) {
      partial<BFloat16>();
      partial<Float16>();
      two<BFloat16>();
      two<Float16>();
      conversions<BFloat16>();
      conversions<Float16>();
    }
  }
};

template <class Precision>
void check_lanes_of() {
  if constexpr (!std::is_void_v<Precision>) {
    Check<typename Precision::Lanes>::run();
    if constexpr (!std::is_same_v<typename Precision::Lanes, typename Precision::RowLanes>) {
      Check<typename Precision::RowLanes>::run();
    }
  }
}

}  // namespace

int main() {
  constexpr std::string_view name = LONGATTN_NAME(LONGATTN_ISA);
  if (!cpu::processor_runs(name)) {
    std::printf("this processor cannot run %s\n", name.data());
    return 77;
  }
  check_lanes_of<Isa::Float32>();
  check_lanes_of<Isa::Float64>();
  check_lanes_of<Isa::BFloat16>();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
