// SPDX-License-Identifier: BSD-3-Clause
// The lanes contract in plain C++, for every processor and every element type. The compiler turns
// it into whatever vectors its target has. Other files of this folder say the same with
// instructions; see tests/native/test_lanes.cpp for what each operation means.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/simd/elements.h"

namespace longattn::inline LONGATTN_ISA {

template <class Real, int kLanes>
struct PortableLanes {
  using Scalar = Real;
  typedef Real Vector __attribute__((vector_size(kLanes * sizeof(Real))));
  static constexpr int kWidth = kLanes;
  static constexpr int kBlockRows = 6;     // register block of a matrix product:
  static constexpr int kBlockVectors = 2;  // 12 sums, 2 operands and 1 spread scalar of 16

  static Vector broadcast(Real value) { return Vector{} + value; }
  static Vector zero() { return Vector{}; }

  template <class Element>
  static Vector load(const Element* data) {
    Vector result{};
    for (int i = 0; i < kLanes; ++i) result[i] = widen(data[i]);
    return result;
  }
  template <class Element>
  static void store(Element* data, Vector value) {
    for (int i = 0; i < kLanes; ++i) narrow(value[i], data[i]);
  }
  // Two vectors side by side.
  template <class Element>
  static void store_two(Element* data, Vector first, Vector second) {
    store(data, first);
    store(data + kWidth, second);
  }
  static constexpr bool kStreams = false;
  template <class Element>
  static Vector load_first(const Element* data, int count) {
    Vector result{};
    for (int i = 0; i < count; ++i) result[i] = widen(data[i]);
    return result;
  }
  template <class Element>
  static void store_first(Element* data, Vector value, int count) {
    for (int i = 0; i < count; ++i) narrow(value[i], data[i]);
  }

  static Vector add(Vector a, Vector b) { return a + b; }
  static Vector subtract(Vector a, Vector b) { return a - b; }
  static Vector multiply(Vector a, Vector b) { return a * b; }
  static Vector divide(Vector a, Vector b) { return a / b; }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }
  static Vector maximum(Vector a, Vector b) { return a > b ? a : b; }

  // Lanes 1, 0, 3, 2, ...
  static Vector swap_neighbours(Vector value) {
    Vector result{};
    for (int i = 0; i < kLanes; ++i) result[i] = value[i ^ 1];
    return result;
  }

  static void transpose(Vector (&rows)[kLanes]) {
    // By way of memory: single lanes of a register are dear.
    Real before[kLanes][kLanes], after[kLanes][kLanes];
    std::memcpy(before, rows, sizeof(before));
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < kLanes; ++j) after[i][j] = before[j][i];
    }
    std::memcpy(rows, after, sizeof(after));
  }

  // `value` where begin <= key < end, else `otherwise`.
  static Vector select_in_range(Vector value, Vector key, Vector begin, Vector end,
                                Vector otherwise) {
    const auto inside = (begin <= key) & (key < end);
    return inside ? value : otherwise;
  }

  static Vector exp2(Vector x) {
    Vector result{};
    for (int i = 0; i < kLanes; ++i) result[i] = std::exp2(x[i]);
    return result;
  }

  static Real sum(Vector value) {
    Real total = 0;
    for (int i = 0; i < kLanes; ++i) total += value[i];
    return total;
  }
};

}  // namespace longattn::inline LONGATTN_ISA
