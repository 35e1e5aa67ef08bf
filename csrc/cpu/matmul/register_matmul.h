// SPDX-License-Identifier: BSD-3-Clause
// A matrix product whose sums stay in registers; an epilogue consumes each finished block.
#pragma once

#include <cstring>

#include "cpu/matmul/operands.h"
#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

// Multiplier for plain numbers: a unit is one scalar.
template <class LanesType>
struct ScalarMultiplier {
  using Lanes = LanesType;
  using Unit = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;
  using Operand = Vector;

  static Operand load(const Unit* data) { return Lanes::load(data); }
  static Operand spread(const char* data) {
    Unit unit;
    std::memcpy(&unit, data, sizeof(unit));
    return Lanes::broadcast(unit);
  }
  static Vector multiply_add(Operand a, Operand b, Vector sum) {
    return Lanes::multiply_add(a, b, sum);
  }
};

// Epilogue: void operator()<rows, vectors>(int row, int vector, const Vector (&sum)[rows][vectors])
// is called once for each block of the result, in no order that results may depend on.
template <class Multiplier>
class RegisterMatmul {
 public:
  using Lanes = typename Multiplier::Lanes;
  using Unit = typename Multiplier::Unit;
  using Vector = typename Multiplier::Vector;
  struct Session {};  // what a thread must hold while it multiplies: nothing
  static constexpr int kRowGranule = 1;   // rows of the left operand that are read together,
  static constexpr int kStepGranule = 1;  // steps that are,
  static constexpr int kLaneGranule = 1;  // and lanes
  static constexpr bool kAnyStride = true;  // the left operand's steps need not be neighbours

  template <class Epilogue>
  static void multiply(LeftOperand left, int rows, RightOperand<Unit> right, int vectors,
                       int steps, Epilogue&& epilogue) {
    constexpr int kVectors = Lanes::kBlockVectors;
    int vector = 0;
    for (; vector + kVectors <= vectors; vector += kVectors) {
      column<kVectors>(left, rows, right, vector, steps, epilogue);
    }
    if constexpr (kVectors > 2) {
      for (; vector + 2 <= vectors; vector += 2) {
        column<2>(left, rows, right, vector, steps, epilogue);
      }
    }
    for (; vector < vectors; ++vector) column<1>(left, rows, right, vector, steps, epilogue);
  }

 private:
  template <int kVectors, class Epilogue>
  static void column(LeftOperand left, int rows, RightOperand<Unit> right, int vector, int steps,
                     Epilogue& epilogue) {
    constexpr int kRows = Lanes::kBlockRows;
    int row = 0;
    for (; row + kRows <= rows; row += kRows) {
      block<kRows, kVectors>(left, row, right, vector, steps, epilogue);
    }
    for (; row + 2 <= rows; row += 2) block<2, kVectors>(left, row, right, vector, steps, epilogue);
    if (row < rows) block<1, kVectors>(left, row, right, vector, steps, epilogue);
  }

  template <int kRows, int kVectors, class Epilogue>
  static void block(LeftOperand left, int row, RightOperand<Unit> right, int vector, int steps,
                    Epilogue& epilogue) {
    Vector sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[m][n] = Lanes::zero();
    }
    const char* scalars = left.data + row * left.row_bytes;
    const Unit* vectors = right.data + vector * Lanes::kWidth;
    for (int s = 0; s < steps; ++s) {
      typename Multiplier::Operand lanes[kVectors];
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) lanes[n] = Multiplier::load(vectors + n * Lanes::kWidth);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const auto scalar = Multiplier::spread(scalars + m * left.row_bytes);
#pragma GCC unroll 4
        for (int n = 0; n < kVectors; ++n) {
          sum[m][n] = Multiplier::multiply_add(scalar, lanes[n], sum[m][n]);
        }
      }
      scalars += left.step_bytes;
      vectors += right.stride;
    }
    epilogue(row, vector, sum);
  }
};

}  // namespace longattn::inline LONGATTN_ISA
