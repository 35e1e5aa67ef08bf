// SPDX-License-Identifier: BSD-3-Clause
// ldmatrix and mma against plain loops. Where a register's elements lie is written out here once
// more, from the formulas of the PTX manual for m16n8k16 fragments, not from the machine's tables.
#include <launch/launch.h>
#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/mma.h>

#include <array>
#include <cstring>
#include <vector>

#include "expect.h"
#include "machine/counts.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

// The manual's row and column of element i of a fragment.
struct Place {
  int row;
  int column;
};

Place place_in_a(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  const bool upper_rows = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper_rows ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}

Place place_in_b(int lane, int i) {
  return {(lane % 4) * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2};
}

Place place_in_sum(int lane, int i) {
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, (lane % 4) * 2 + (i & 1)};
}

struct Multiplication {
  const float* a;     // [16, 16]
  const float* b;     // [16, 8]
  const float* bias;  // [16, 8], the sums before
  float* out;         // [16, 8]
};

template <class Element>
__global__ void multiply(Multiplication p) {
  const int lane = threadIdx.x;
  uint32_t a[4], b[2];
  float sum[4];
  const auto a_at = [&](int i) {
    return p.a[place_in_a(lane, i).row * 16 + place_in_a(lane, i).column];
  };
  const auto b_at = [&](int i) {
    return p.b[place_in_b(lane, i).row * 8 + place_in_b(lane, i).column];
  };
  for (int i = 0; i < 4; ++i) a[i] = pack<Element>(a_at(2 * i), a_at(2 * i + 1));
  for (int i = 0; i < 2; ++i) b[i] = pack<Element>(b_at(2 * i), b_at(2 * i + 1));
  const auto index = [&](int i) {
    return place_in_sum(lane, i).row * 8 + place_in_sum(lane, i).column;
  };
  for (int i = 0; i < 4; ++i) sum[i] = p.bias[index(i)];
  mma_m16n8k16<Element>(sum, a, b[0], b[1]);
  for (int i = 0; i < 4; ++i) p.out[index(i)] = sum[i];
}

// Small integers: every sum is exact in any order.
template <class Element>
void test_mma(const std::string& name) {
  std::vector<float> a(256), b(128), bias(128), out(128, -1.0f);
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>((i * 37 + i / 16 * 5) % 23 - 11);
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>((i * 29 + i / 8 * 3) % 19 - 9);
  for (int i = 0; i < 128; ++i) bias[i] = static_cast<float>(i % 17 - 8);
  const Multiplication p{a.data(), b.data(), bias.data(), out.data()};
  longattn::cuda::launch("multiply", multiply<Element>, 1, 32, 0, nullptr, p);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float wanted = bias[row * 8 + column];
      for (int k = 0; k < 16; ++k) wanted += a[row * 16 + k] * b[k * 8 + column];
      expect_equal("mma " + name, out[row * 8 + column], wanted);
    }
  }
}

// A register of ldmatrix holds what the same register of a row-major fragment must hold.
struct LoadPlan {
  alignas(16) uint16_t matrices[4][8][8];
};

template <bool kTransposed>
__global__ void load(uint32_t* registers) {
  LoadPlan& plan = shared_memory<LoadPlan>();
  const int lane = threadIdx.x;
  for (int column = 0; column < 8; ++column) {
    plan.matrices[lane / 8][lane % 8][column] =
        static_cast<uint16_t>(lane / 8 * 64 + lane % 8 * 8 + column);
  }
  uint32_t r[4];
  if constexpr (kTransposed) {
    ldmatrix_x4_trans(r, shared_address(plan.matrices[lane / 8][lane % 8]));
  } else {
    ldmatrix_x4(r, shared_address(plan.matrices[lane / 8][lane % 8]));
  }
  for (int i = 0; i < 4; ++i) registers[lane * 4 + i] = r[i];
}

void test_ldmatrix(bool transposed) {
  std::array<uint32_t, 128> registers;
  auto* kernel = transposed ? load<true> : load<false>;
  longattn::cuda::launch("load", kernel, 1, 32, sizeof(LoadPlan), nullptr, registers.data());
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int half = 0; half < 2; ++half) {
        // The manual: thread 0 holds row 0, elements 0 and 1; thread 4 holds row 1, and so on.
        const int row = transposed ? lane % 4 * 2 + half : lane / 4;
        const int column = transposed ? lane / 4 : lane % 4 * 2 + half;
        const uint32_t got = registers[lane * 4 + matrix] >> 16 * half & 0xffffu;
        expect_equal(transposed ? "ldmatrix.trans" : "ldmatrix", got,
                     static_cast<uint32_t>(matrix * 64 + row * 8 + column));
      }
    }
  }
}

// Addresses `stride` bytes apart, from `offset`.
__global__ void load_strided(uint32_t offset, uint32_t stride) {
  struct Plan {
    char bytes[8192];
  };
  uint32_t r[4];
  ldmatrix_x4(r, shared_address(&shared_memory<Plan>()) + offset + threadIdx.x * stride);
}

uint64_t conflicts_at(uint32_t stride) {
  take_counts();
  longattn::cuda::launch("load_strided", load_strided, 1, 32, 8192, nullptr, 0u, stride);
  const Counts counted = take_counts();
  expect_equal("matrix loads", counted.matrix_loads, uint64_t{1});
  return counted.bank_conflicts;
}

void test_bank_conflicts() {
  expect_equal("rows in line", conflicts_at(16), uint64_t{0});
  expect_equal("one row for all", conflicts_at(0), uint64_t{0});
  expect_equal("rows of 32 bytes", conflicts_at(32), uint64_t{4});
  expect_equal("rows of 128 bytes", conflicts_at(128), uint64_t{28});
  expect_equal("padded rows", conflicts_at(128 + 16), uint64_t{0});
}

void test_bad_addresses() {
  const auto run = [](uint32_t offset) {
    return [=] {
      longattn::cuda::launch("load_strided", load_strided, 1, 32, 8192, nullptr, offset, 16u);
    };
  };
  expect("loads at the very end", error_of(run(8192 - 512)).empty());
  expect_error("loads past the end",
               {"load_strided", "ldmatrix at test_matrix.cpp:", "offset 8192", "8192 bytes were"},
               run(8192 - 496));
  expect_error("loads before the begin", {"ldmatrix at", "offset -16"}, run(-16u));
  expect_error("loads between rows", {"ldmatrix at", "offset 8 ", "not a multiple of 16"}, run(8));
}

}  // namespace

int main() {
  under_every_setting([](const std::string& setting) {
    test_mma<__nv_bfloat16>("bfloat16" + setting);
    test_mma<__half>("half" + setting);
    test_ldmatrix(false);
    test_ldmatrix(true);
  });
  test_bank_conflicts();
  test_bad_addresses();
  return report();
}
