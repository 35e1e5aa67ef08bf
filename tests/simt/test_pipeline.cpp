// SPDX-License-Identifier: BSD-3-Clause
// A small kernel from end to end, and with bugs planted in it: c = a b over tiles of k that a ring
// of two stages brings in while the tensor cores work. The emulator must find each bug, by an
// error or a wrong result, under at least one of the settings (races under all), and nothing in the
// healthy kernel.
#include <launch/launch.h>
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/ldmatrix.h>
#include <ptx/math.h>
#include <ptx/memory.h>
#include <ptx/mma.h>

#include <cmath>
#include <vector>

#include "expect.h"
#include "machine/counts.h"
#include "machine/global_memory.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

constexpr int kDepth = 16;  // of a tile, along k
constexpr int kStages = 2;
constexpr int kWarps = 2;  // each has 16 rows of c
constexpr int kColumns = 16;

enum class Bug {
  kNone,
  kWaitsForTooFewGroups,
  kReadsBeforeOthersHaveLoaded,
  kRefillsWhileOthersRead,
  kLoadsRowsPastTheEnd,
  kStoresWithAnotherSwizzle,
  kForgetsTheTranspose,
};

struct Problem {
  const void* a;  // [rows, depth] 16-bit elements
  const void* b;  // [depth, 16]
  float* c;       // [rows, 16]
  int rows;
  int depth;
};

struct Plan {
  alignas(16) char a[kStages][kWarps * 16][32];
  alignas(16) char b[kStages][kDepth][32];
};

// The halves of four consecutive rows of 32 bytes change places every four rows: eight rows of one
// column of 16 bytes then touch all banks.
LONGATTN_DEVICE uint32_t place(int row, int half) { return row * 32 + (half ^ (row / 4 & 1)) * 16; }

template <Bug kBug>
LONGATTN_DEVICE void load_tile(const Problem& p, Plan& plan, int tile) {
  const int row = threadIdx.x / 2, half = threadIdx.x % 2;
  const int stored_half = kBug == Bug::kStoresWithAnotherSwizzle ? half ^ (row / 8 & 1) : half;
  const int block_row = blockIdx.x * kWarps * 16 + row;
  const bool valid = kBug == Bug::kLoadsRowsPastTheEnd || block_row < p.rows;
  const char* a = static_cast<const char*>(p.a);
  cp_async_16(shared_address(plan.a[tile % kStages]) + place(row, stored_half),
              valid ? a + (int64_t{block_row} * p.depth + tile * kDepth + half * 8) * 2 : a, valid);
  if (row < kDepth) {
    const char* b = static_cast<const char*>(p.b);
    cp_async_16(shared_address(plan.b[tile % kStages]) + place(row, half),
                b + ((tile * kDepth + row) * kColumns + half * 8) * 2, true);
  }
}

template <class Element, Bug kBug>
__global__ void __launch_bounds__(64) multiply(const __grid_constant__ Problem p) {
  Plan& plan = shared_memory<Plan>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int tiles = p.depth / kDepth;
  float sum[2][4] = {};
  load_tile<kBug>(p, plan, 0);
  cp_async_commit();
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_tile<kBug>(p, plan, tile + 1);
    cp_async_commit();
    cp_async_wait<kBug == Bug::kWaitsForTooFewGroups ? 2 : 1>();
    if (kBug != Bug::kReadsBeforeOthersHaveLoaded) synchronize_block();
    uint32_t a[4], b[4];
    const uint32_t a_smem = shared_address(plan.a[tile % kStages]);
    const uint32_t b_smem = shared_address(plan.b[tile % kStages]);
    ldmatrix_x4(a, a_smem + place(warp * 16 + lane % 16, lane / 16));
    if (kBug == Bug::kForgetsTheTranspose) {
      ldmatrix_x4(b, b_smem + place(lane % 16, lane / 16));
    } else {
      ldmatrix_x4_trans(b, b_smem + place(lane % 16, lane / 16));
    }
    mma_m16n8k16<Element>(sum[0], a, b[0], b[1]);
    mma_m16n8k16<Element>(sum[1], a, b[2], b[3]);
    if (kBug != Bug::kRefillsWhileOthersRead) synchronize_block();
  }
  for (int i = 0; i < 8; ++i) {
    const int row = (blockIdx.x * kWarps + warp) * 16 + lane / 4 + i / 2 % 2 * 8;
    if (row < p.rows) p.c[row * kColumns + i / 4 * 8 + lane % 4 * 2 + i % 2] = sum[i / 4][i % 4];
  }
}

template <class Element>
struct Matrices {
  static constexpr int kRows = 40, kInner = 5 * kDepth;
  alignas(16) Element a[kRows * kInner];
  alignas(16) Element b[kInner * kColumns];
  std::vector<float> c;

  // Small integers, so that sums are exact; no two tiles alike.
  Matrices() : c(kRows * kColumns, NAN) {
    for (int i = 0; i < kRows * kInner; ++i) a[i] = static_cast<float>((i * 31 + i / 80) % 17 - 8);
    for (int i = 0; i < kInner * kColumns; ++i)
      b[i] = static_cast<float>((i * 13 + i / 7) % 11 - 5);
  }

  bool right() const {
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        float wanted = 0;
        for (int k = 0; k < kInner; ++k) {
          wanted += static_cast<float>(a[row * kInner + k]) *
                    static_cast<float>(b[k * kColumns + column]);
        }
        if (c[row * kColumns + column] != wanted) return false;
      }
    }
    return true;
  }
};

// "" or what has been found.
template <class Element, Bug kBug>
std::string run() {
  Matrices<Element> m;
  forget_allowed();
  allow_reading(m.a, sizeof m.a);
  allow_reading(m.b, sizeof m.b);
  const Problem p{m.a, m.b, m.c.data(), m.kRows, m.kInner};
  const std::string error = error_of([&] {
    longattn::cuda::launch("multiply", multiply<Element, kBug>, 2, 64, sizeof(Plan), nullptr, p);
  });
  forget_allowed();
  if (!error.empty()) return error;
  return m.right() ? "" : "wrong";
}

enum class Found { kSometimes, kAlways };

template <Bug kBug>
void expect_found(const char* name, Found how_often = Found::kSometimes) {
  int found = 0;
  std::string example;
  under_every_setting([&](const std::string& setting) {
    const std::string what = run<__nv_bfloat16, kBug>();
    if (what.empty()) return;
    example = what + setting;
    ++found;
  });
  std::printf("%s: found under %d of %zu settings, such as: %s\n", name, found,
              every_setting().size(), example.c_str());
  const int wanted = how_often == Found::kAlways ? static_cast<int>(every_setting().size()) : 1;
  expect(name, found >= wanted);
}

}  // namespace

int main() {
  take_counts();
  under_every_setting([](const std::string& setting) {
    const std::string bfloat16 = run<__nv_bfloat16, Bug::kNone>();
    expect("bfloat16" + setting + bfloat16, bfloat16.empty());
    const std::string half = run<__half, Bug::kNone>();
    expect("half" + setting + half, half.empty());
  });
  const Counts counted = take_counts();
  const uint64_t runs = 2 * every_setting().size();
  expect_equal("products", counted.matrix_products, runs * 2 * kWarps * 5 * 2);
  expect_equal("bank conflicts of the swizzle", counted.bank_conflicts, uint64_t{0});

  expect_found<Bug::kWaitsForTooFewGroups>("waits for too few groups", Found::kAlways);
  expect_found<Bug::kReadsBeforeOthersHaveLoaded>("reads before others have loaded",
                                                  Found::kAlways);
  expect_found<Bug::kRefillsWhileOthersRead>("refills while others read", Found::kAlways);
  expect_found<Bug::kLoadsRowsPastTheEnd>("loads rows past the end");
  expect_found<Bug::kStoresWithAnotherSwizzle>("stores with another swizzle");
  expect_found<Bug::kForgetsTheTranspose>("forgets the transpose");
  return report();
}
