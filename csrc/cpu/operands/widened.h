// SPDX-License-Identifier: BSD-3-Clause
// Precision policy: products in the accumulator's type. 16-bit rows are widened as they are read;
// rows that are already wide are used where they lie.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cpu/arena.h"
#include "cpu/matmul/register_matmul.h"
#include "cpu/operands/rows.h"
#include "cpu/simd/elements.h"
#include "cpu/tile_sizes.h"

namespace longattn::inline LONGATTN_ISA {

template <class LanesType, class ElementType>
struct Widened {
  using Lanes = LanesType;
  using RowLanes = Lanes;  // of kernels without matrix products
  using Vector = typename Lanes::Vector;
  using Element = ElementType;
  using Real = typename Lanes::Scalar;
  using Matmul = RegisterMatmul<ScalarMultiplier<Lanes>>;
  using Unit = Real;
  using WeightElement = Real;
  static constexpr int kKeyGranule = 2;  // weights are stored two keys at a time
  static constexpr int kLaneGranule = Lanes::kWidth;

  static int steps(int length) { return length; }

  // Right operand, lanes are rows: [dim][kQueryTile]; lanes beyond the rows are zero.
  static RightOperand<Unit> lanes_are_rows(const Rows<Element>& rows, Arena& arena) {
    Unit* panel = arena.take<Unit>(static_cast<size_t>(rows.dim) * kQueryTile);
    for (int row = 0; row < kQueryTile; row += Lanes::kWidth) {
      for (int d = 0; d < rows.dim; d += Lanes::kWidth) {
        const int dims = std::min(Lanes::kWidth, rows.dim - d);
        Vector block[Lanes::kWidth];
        for (int i = 0; i < Lanes::kWidth; ++i) block[i] = part_of_row(rows, row + i, d, dims);
        Lanes::transpose(block);
        for (int i = 0; i < dims; ++i) Lanes::store(panel + (d + i) * kQueryTile + row, block[i]);
      }
    }
    return {panel, kQueryTile};
  }

  // Right operand, lanes are the numbers of a row: [kQueryTile][dim, padded with zeros].
  static RightOperand<Unit> lanes_are_dims(const Rows<Element>& rows, Arena& arena) {
    const int width = round_up(rows.dim, Lanes::kWidth);
    Unit* panel = arena.take<Unit>(static_cast<size_t>(width) * kQueryTile);
    for (int row = 0; row < rows.count; ++row) widen_row(rows, row, panel + row * width, width);
    return {panel, width};
  }

  static LeftRoles left(const Rows<Element>& rows, Need, Arena& arena) {
    const Real* data;
    ptrdiff_t stride;
    if constexpr (std::is_same_v<Element, Real>) {
      data = rows.data;
      stride = rows.stride;
    } else {
      const int width = round_up(rows.dim, Lanes::kWidth);
      Real* wide = arena.take<Real>(static_cast<size_t>(rows.count) * width);
      for (int row = 0; row < rows.count; ++row) widen_row(rows, row, wide + row * width, width);
      data = wide;
      stride = width;
    }
    const ptrdiff_t row_bytes = stride * static_cast<ptrdiff_t>(sizeof(Real));
    const char* bytes = reinterpret_cast<const char*>(data);
    return {{bytes, row_bytes, sizeof(Real)}, {bytes, sizeof(Real), row_bytes}};
  }

  // Weights of keys `key` and `key + 1` as a right operand that is summed over keys.
  static void store_weights(Unit* panel, int key, int lane, Vector first, Vector second) {
    Lanes::store(panel + key * kQueryTile + lane, first);
    Lanes::store(panel + (key + 1) * kQueryTile + lane, second);
  }

  // One weight vector of the backward pass: [keys][kQueryTile].
  static void store_weight(WeightElement* weights, int key, int lane, Vector value) {
    Lanes::store(weights + key * kQueryTile + lane, value);
  }

  // These weights as a left operand (m = key) that is summed over queries ...
  static LeftOperand weights_by_key(const WeightElement* weights) {
    return {reinterpret_cast<const char*>(weights), kQueryTile * sizeof(Real), sizeof(Real)};
  }

  // ... and as a right operand that is summed over keys.
  static RightOperand<Unit> weights_over_keys(WeightElement* weights, int, Arena&) {
    return {weights, kQueryTile};
  }

 private:
  // `dims` numbers of a row, from d on; zeros beyond them, and for rows beyond the last.
  static Vector part_of_row(const Rows<Element>& rows, int row, int d, int dims) {
    if (row >= rows.count) return Lanes::zero();
    const Element* source = rows.data + row * rows.stride + d;
    return dims == Lanes::kWidth ? Lanes::load(source) : Lanes::load_first(source, dims);
  }

  static void widen_row(const Rows<Element>& rows, int row, Real* wide, int width) {
    const Element* source = rows.data + row * rows.stride;
    int d = 0;
    for (; d + Lanes::kWidth <= rows.dim; d += Lanes::kWidth) {
      Lanes::store(wide + d, Lanes::load(source + d));
    }
    if (d < width) Lanes::store(wide + d, Lanes::load_first(source + d, rows.dim - d));
  }
};

}  // namespace longattn::inline LONGATTN_ISA
