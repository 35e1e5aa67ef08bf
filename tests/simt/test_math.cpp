// SPDX-License-Identifier: BSD-3-Clause
// Conversions and approximate functions: the corner cases that the PTX manual fixes.
#include <ptx/math.h>

#include <cmath>
#include <limits>

#include "expect.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kSubnormal = 1e-40f;

template <class Element>
void test_rounding(const char* name, float value, float rounded) {
  const float2 pair = unpack<Element>(pack<Element>(value, -value));
  expect_equal(name, pair.x, rounded);
  expect_equal(name, pair.y, -rounded);
}

}  // namespace

int main() {
  expect_equal("low is low", pack<__nv_bfloat16>(1.0f, 2.0f), 0x40003f80u);
  expect_equal("low is low", pack<__half>(1.0f, 2.0f), 0x40003c00u);
  expect_equal("NaN", pack<__nv_bfloat16>(kNaN, kInfinity), 0x7f807fffu);
  expect_equal("NaN", pack<__half>(kNaN, kInfinity), 0x7c007fffu);

  // 1 + 2^-8 lies between two bfloat16 numbers, 1 + 3 2^-8 too: ties go to even.
  test_rounding<__nv_bfloat16>("tie down", 1.0f + 0x1p-8f, 1.0f);
  test_rounding<__nv_bfloat16>("tie up", 1.0f + 0x3p-8f, 1.0f + 0x1p-6f);
  test_rounding<__nv_bfloat16>("over the tie", 1.0f + 0x1p-8f + 0x1p-20f, 1.0f + 0x1p-7f);
  test_rounding<__nv_bfloat16>("overflow", 3.4e38f, kInfinity);
  test_rounding<__half>("tie down", 1.0f + 0x1p-11f, 1.0f);
  test_rounding<__half>("tie up", 1.0f + 0x3p-11f, 1.0f + 0x1p-9f);
  test_rounding<__half>("largest", 65519.0f, 65504.0f);
  test_rounding<__half>("overflow", 65520.0f, kInfinity);
  test_rounding<__half>("subnormal", 0x1.8p-24f, 0x1p-23f);
  test_rounding<__half>("underflow", 0x1p-25f, 0.0f);

  expect_equal("2^3", exp2_approximate(3.0f), 8.0f);
  expect_equal("2^-inf", exp2_approximate(-kInfinity), 0.0f);
  expect_equal("2^inf", exp2_approximate(kInfinity), kInfinity);
  expect_equal("2^-130 is flushed", exp2_approximate(-130.0f), 0.0f);
  expect_equal("2^subnormal", exp2_approximate(kSubnormal), 1.0f);
  expect("2^NaN", std::isnan(exp2_approximate(kNaN)));

  expect_equal("log 8", log2_approximate(8.0f), 3.0f);
  expect_equal("log 0", log2_approximate(0.0f), -kInfinity);
  expect_equal("log subnormal", log2_approximate(kSubnormal), -kInfinity);
  expect_equal("log inf", log2_approximate(kInfinity), kInfinity);
  expect("log -1", std::isnan(log2_approximate(-1.0f)));
  return report();
}
