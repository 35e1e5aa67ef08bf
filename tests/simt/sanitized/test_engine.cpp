// SPDX-License-Identifier: BSD-3-Clause
// The emulated kernels under AddressSanitizer and UBSan, which see what the emulator's wrappers do
// not: plain loads and stores, shifts, conversions. With the argument `overrun` a kernel writes
// beside its tensor on purpose: the sanitizer must stop it.
#include <cstring>

#include <launch/launch.h>
#include <ptx/device.h>

#include "expect.h"
#include "sanitized/loop.h"
#include "sanitized/rotation.h"

namespace {

using namespace sanitized;

const std::vector<Description> kDescriptions = {
    {"causal", Split::kBatch, 2, 70, 75, 4, 2, 24, 40},
    {"wide", Split::kBatch, 1, 33, 130, 1, 1, 80, 120},
    {"window", Split::kBatch, 1, 140, 131, 1, 1, 64, 64, 20, 3},
    {"packed", Split::kPacked, 4, 132, 145, 2, 1, 16, 16, 0, 0, {0, 61, 61, 62, 132},
     {0, 40, 50, 70, 145}},
    {"dilated", Split::kDilated, 1, 90, 100, 4, 2, 16, 8, 0, 0, {}, {}, 32, 3},
    // More than 2048 queries: two slices of the tile that holds the sinks.
    {"slices", Split::kBatch, 1, 2100, 2100, 1, 1, 8, 8, 4, 2},
};

// Rounding of the element type, over a few steps.
constexpr double kTolerance = 0.03;
constexpr double kLseTolerance = 1e-3;

template <class Element>
void test(const Description& about, ElementType type, const std::string& setting) {
  Run<Element> run(about);
  run.forward_and_backward(type);
  const Distances found = Loop<Element>{run}.compare();
  const auto near = [&](const char* result, const Distance& distance, double tolerance) {
    simt::expect(about.name + std::string(", ") + result + setting + ": off by " +
                     std::to_string(distance.relative()),
                 distance.relative() <= tolerance);
  };
  near("out", found.out, kTolerance);
  near("lse", found.lse, kLseTolerance);
  near("dq", found.dq, kTolerance);
  near("dk", found.dk, kTolerance);
  near("dv", found.dv, kTolerance);
}

const std::vector<RotationDescription> kRotations = {
    {"halves", 2, 9, 7, 3, 2, 64, 64, false, false},
    {"neighbours", 1, 5, 21, 2, 1, 40, 24, true, true},
    {"uneven", 2, 11, 3, 1, 1, 32, 20, false, true},
    {"narrow", 1, 70, 70, 9, 3, 8, 6, false, false},
};

template <class Element>
void test(const RotationDescription& about, ElementType type, const std::string& setting) {
  Rotation<Element> rotation(about);
  rotation.forward_and_backward(type);
  const double distance = rotation.distance();
  simt::expect(about.name + std::string(", rotated") + setting + ": off by " +
                   std::to_string(distance),
               distance <= (sizeof(Element) == 4 ? 1e-5 : kTolerance));
}

__global__ void overrun(float* numbers, int count) { numbers[count + threadIdx.x] = 1.0f; }

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "overrun") == 0) {
    std::vector<float> numbers(8);
    longattn::cuda::launch("overrun", overrun, 1, 32, 0, nullptr, numbers.data(), 8);
    return 0;
  }
  const simt::Settings kSettings[] = {
      {.order = simt::Order::kRoundRobin, .async = simt::Async::kLazy},
      {.order = simt::Order::kRandom, .async = simt::Async::kRandom},
  };
  for (const Description& about : kDescriptions) {
    simt::settings() = kSettings[0];
    test<__nv_bfloat16>(about, ElementType::kBFloat16, simt::named(kSettings[0]));
    simt::settings() = kSettings[1];
    test<__half>(about, ElementType::kFloat16, simt::named(kSettings[1]));
  }
  for (const RotationDescription& about : kRotations) {
    simt::settings() = kSettings[0];
    test<__nv_bfloat16>(about, ElementType::kBFloat16, simt::named(kSettings[0]));
    test<float>(about, ElementType::kFloat32, simt::named(kSettings[0]));
    simt::settings() = kSettings[1];
    test<__half>(about, ElementType::kFloat16, simt::named(kSettings[1]));
  }
  return simt::report();
}
