// SPDX-License-Identifier: BSD-3-Clause
#include "machine/matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "machine/counts.h"
#include "machine/races.h"
#include "machine/shared_memory.h"
#include "machine/warp.h"

namespace simt {
namespace {

constexpr int kMatrices = 4;
constexpr int kRows = 8;  // of an 8x8 matrix of 16-bit elements
constexpr uint32_t kRowBytes = 16;

struct MatrixLoad {
  uint32_t address;
  uint32_t* registers;
};

uint32_t pair_of(uint16_t low, uint16_t high) { return low | static_cast<uint32_t>(high) << 16; }

// The eight rows of a matrix come in one pass if they lie in different groups of four banks.
uint64_t extra_passes(const std::array<uint32_t, kRows>& addresses) {
  constexpr int kBankGroups = 8;
  std::array<uint64_t, kBankGroups> rows{};
  for (int row = 0; row < kRows; ++row) {
    const auto begin = addresses.begin();
    const bool seen = std::find(begin, begin + row, addresses[row]) != begin + row;
    rows[addresses[row] / kRowBytes % kBankGroups] += seen ? 0 : 1;
  }
  return *std::max_element(rows.begin(), rows.end()) - 1;
}

template <Transposed transposed>
void execute_load(void* const* arguments, Where where) {
  const auto lane_load = [&](int lane) { return static_cast<const MatrixLoad*>(arguments[lane]); };
  uint16_t element[kMatrices][kRows][8];
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    std::array<uint32_t, kRows> addresses;
    for (int row = 0; row < kRows; ++row) {
      addresses[row] = lane_load(matrix * kRows + row)->address;
      const void* source = shared_at("ldmatrix", addresses[row], kRowBytes, where);
      shared_is_read_by(matrix * kRows + row, addresses[row], kRowBytes, {where});
      std::memcpy(element[matrix][row], source, kRowBytes);
    }
    counts().bank_conflicts += extra_passes(addresses);
  }
  ++counts().matrix_loads;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int row = lane / 4;
    const int pair = 2 * (lane % 4);
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const auto& m = element[matrix];
      lane_load(lane)->registers[matrix] = transposed == Transposed::kYes
                                               ? pair_of(m[pair][row], m[pair + 1][row])
                                               : pair_of(m[row][pair], m[row][pair + 1]);
    }
  }
}

struct Product {
  float* sum;
  const uint32_t* a;
  uint32_t b[2];
};

// A lane's registers spread over the warp's matrices; the layout is told in ptx/mma.h.
struct Matrices {
  alignas(32) float a[16][16];
  alignas(32) float b[16][8];
  alignas(32) float sum[16][8];
};

template <class Element>
float element_of(uint32_t pair, int half) {
  return std::bit_cast<Element>(static_cast<uint16_t>(pair >> 16 * half));
}

template <class Element>
void gather(void* const* arguments, Matrices& m) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const Product& product = *static_cast<const Product*>(arguments[lane]);
    const int row = lane / 4;
    const int pair = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      m.a[row][pair + half] = element_of<Element>(product.a[0], half);
      m.a[row + 8][pair + half] = element_of<Element>(product.a[1], half);
      m.a[row][pair + 8 + half] = element_of<Element>(product.a[2], half);
      m.a[row + 8][pair + 8 + half] = element_of<Element>(product.a[3], half);
      m.b[pair + half][row] = element_of<Element>(product.b[0], half);
      m.b[pair + 8 + half][row] = element_of<Element>(product.b[1], half);
      m.sum[row][pair + half] = product.sum[half];
      m.sum[row + 8][pair + half] = product.sum[2 + half];
    }
  }
}

void scatter(const Matrices& m, void* const* arguments) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const Product& product = *static_cast<const Product*>(arguments[lane]);
    const int row = lane / 4;
    const int pair = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      product.sum[half] = m.sum[row][pair + half];
      product.sum[2 + half] = m.sum[row + 8][pair + half];
    }
  }
}

// Four columns of b and sum side by side; compilers do not find that by themselves.
using Columns = float __attribute__((vector_size(16), may_alias));

template <class Element>
void execute_product(void* const* arguments, Where) {
  Matrices m;
  gather<Element>(arguments, m);
  for (int row = 0; row < 16; ++row) {
    const auto* b = reinterpret_cast<const Columns*>(m.b);
    auto* sum = reinterpret_cast<Columns*>(m.sum[row]);
    Columns left = sum[0];
    Columns right = sum[1];
    for (int k = 0; k < 16; ++k) {
      left += m.a[row][k] * b[2 * k];
      right += m.a[row][k] * b[2 * k + 1];
    }
    sum[0] = left;
    sum[1] = right;
  }
  scatter(m, arguments);
  ++counts().matrix_products;
}

}  // namespace

void load_matrices(uint32_t (&registers)[4], uint32_t address, Transposed transposed, Where where) {
  MatrixLoad load{address, registers};
  if (transposed == Transposed::kYes) {
    run_in_warp("ldmatrix.trans", &load, execute_load<Transposed::kYes>, where);
  } else {
    run_in_warp("ldmatrix", &load, execute_load<Transposed::kNo>, where);
  }
}

template <class Element>
void multiply_matrices(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                       Where where) {
  Product product{sum, a, {b0, b1}};
  run_in_warp("mma", &product, execute_product<Element>, where);
}

template void multiply_matrices<__nv_bfloat16>(float (&)[4], const uint32_t (&)[4], uint32_t,
                                               uint32_t, Where);
template void multiply_matrices<__half>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t,
                                        Where);

}  // namespace simt
