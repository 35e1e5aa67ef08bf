// SPDX-License-Identifier: BSD-3-Clause
// A matrix product on a tile unit (Intel AMX): blocks of 32 rows x 32 lanes x 32 numbers, made of
// 2 x 2 tiles. `TileUnit` is the hardware's or the model of it.
#pragma once

#include <cstdint>

#include "cpu/matmul/operands.h"
#include "cpu/simd/avx512.h"

namespace longattn::inline LONGATTN_ISA {

template <class TileUnit>
class TileMatmul {
 public:
  using Lanes = Avx512Lanes;
  using Unit = uint32_t;
  using Vector = Lanes::Vector;
  using Session = typename TileUnit::Session;
  static constexpr int kRowGranule = 32;
  static constexpr int kStepGranule = 16;  // pairs
  static constexpr int kLaneGranule = 32;
  static constexpr bool kAnyStride = false;  // steps of the left operand lie side by side

  // Rows, lanes and steps are read up to their granules; the epilogue sees only what was asked.
  template <class Epilogue>
  static void multiply(LeftOperand left, int rows, RightOperand<Unit> right, int vectors,
                       int steps, Epilogue&& epilogue) {
    for (int vector = 0; vector < vectors; vector += 2) {
      for (int row = 0; row < rows; row += kRowGranule) {
        alignas(64) float block[kRowGranule * kLaneGranule];
        TileUnit::clear();
        for (int step = 0; step < steps; step += kStepGranule) {
          TileUnit::multiply_add(left.data + row * left.row_bytes + step * left.step_bytes,
                                 left.row_bytes,
                                 right.data + step * right.stride + vector * Lanes::kWidth,
                                 right.stride * static_cast<ptrdiff_t>(sizeof(Unit)));
        }
        TileUnit::store(block);
        const int block_rows = rows - row < kRowGranule ? rows - row : kRowGranule;
        if (vector + 2 <= vectors) {
          emit<2>(block, row, block_rows, vector, epilogue);
        } else {
          emit<1>(block, row, block_rows, vector, epilogue);
        }
      }
    }
  }

 private:
  template <int kVectors, class Epilogue>
  static void emit(const float* block, int row, int block_rows, int vector, Epilogue& epilogue) {
    int m = 0;
    for (; m + 4 <= block_rows; m += 4) emit_rows<4, kVectors>(block, m, row, vector, epilogue);
    for (; m < block_rows; ++m) emit_rows<1, kVectors>(block, m, row, vector, epilogue);
  }

  template <int kRows, int kVectors, class Epilogue>
  static void emit_rows(const float* block, int m, int row, int vector, Epilogue& epilogue) {
    Vector sum[kRows][kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (int n = 0; n < kVectors; ++n) {
        sum[i][n] = Lanes::load(block + (m + i) * kLaneGranule + n * Lanes::kWidth);
      }
    }
    epilogue(row + m, vector, sum);
  }
};

}  // namespace longattn::inline LONGATTN_ISA
