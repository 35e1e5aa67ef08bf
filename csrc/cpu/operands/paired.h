// SPDX-License-Identifier: BSD-3-Clause
// Precision policy for bfloat16 with pair products (AVX512_BF16, AMX): operands stay bfloat16,
// weights are rounded to bfloat16, sums are float.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/arena.h"
#include "cpu/operands/rows.h"
#include "cpu/simd/avx512_bf16.h"
#include "cpu/simd/transpose.h"
#include "cpu/tile_sizes.h"

namespace longattn::inline LONGATTN_ISA {

template <class MatmulType>
struct Paired {
  using Lanes = Avx512Lanes;
  using RowLanes = Avx512Bf16Lanes;
  using Vector = Lanes::Vector;
  using Element = BFloat16;
  using Real = float;
  using Matmul = MatmulType;
  using Unit = uint32_t;
  using WeightElement = BFloat16;
  static constexpr int kKeyGranule = 2 * Matmul::kStepGranule;
  static constexpr int kLaneGranule = std::max(Lanes::kWidth, Matmul::kLaneGranule);

  static int steps(int length) { return round_up((length + 1) / 2, Matmul::kStepGranule); }

  // Right operand, lanes are rows: pairs of dims [steps][kQueryTile]; zero beyond rows and dims.
  static RightOperand<Unit> lanes_are_rows(const Rows<Element>& rows, Arena& arena) {
    const int step_count = steps(rows.dim);
    Unit* panel = arena.take<Unit>(static_cast<size_t>(round_up(step_count, 16)) * kQueryTile);
    for (int step = 0; step < step_count; step += 16) {
      for (int lane = 0; lane < kQueryTile; lane += 16) {
        __m512i block[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) block[i] = pairs_of_row(rows, lane + i, 2 * step);
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          _mm512_storeu_si512(panel + (step + i) * kQueryTile + lane, block[i]);
        }
      }
    }
    return {panel, kQueryTile};
  }

  // Right operand, lanes are dims: pairs of rows [count / 2][dim]; zero beyond both.
  static RightOperand<Unit> lanes_are_dims(const Rows<Element>& rows, Arena& arena) {
    const int width = round_up(rows.dim, kLaneGranule);
    const int height = round_up(rows.count, kKeyGranule);
    Unit* panel = arena.take<Unit>(static_cast<size_t>(width) * height / 2);
    for (int row = 0; row < height; row += 2) {
      for (int d = 0; d < width; d += 16) {
        _mm512_storeu_si512(panel + row / 2 * width + d, pair_of_rows(rows, row, d));
      }
    }
    return {panel, width};
  }

  static LeftRoles left(const Rows<Element>& rows, Need need, Arena& arena) {
    LeftRoles roles{};
    if (need != Need::kByDim) roles.by_row = by_row(rows, arena);
    if (need == Need::kByRow) return roles;
    if constexpr (Matmul::kAnyStride) {
      const RightOperand<Unit> pairs = lanes_are_dims(rows, arena);
      roles.by_dim = {reinterpret_cast<const char*>(pairs.data), sizeof(Unit),
                      pairs.stride * static_cast<ptrdiff_t>(sizeof(Unit))};
    } else {
      roles.by_dim = transposed(rows, arena);
    }
    return roles;
  }

  static void store_weights(Unit* panel, int key, int lane, Vector first, Vector second) {
    alignas(64) static constexpr uint16_t kInterleave[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i apart = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
    const __m512i pairs = _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), apart);
    _mm512_storeu_si512(panel + key / 2 * kQueryTile + lane, pairs);
  }

  static void store_weight(WeightElement* weights, int key, int lane, Vector value) {
    const __m256i narrow = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + key * kQueryTile + lane), narrow);
  }

  static LeftOperand weights_by_key(const WeightElement* weights) {
    return {reinterpret_cast<const char*>(weights), kQueryTile * sizeof(Element), sizeof(Unit)};
  }

  static RightOperand<Unit> weights_over_keys(const WeightElement* weights, int count,
                                              Arena& arena) {
    return lanes_are_dims({weights, kQueryTile, count, kQueryTile}, arena);
  }

 private:
  static __mmask16 first(int count) {
    return Lanes::first(count < 0 ? 0 : count < 16 ? count : 16);
  }

  // Numbers dim .. dim + 31 of a row as 16 pairs.
  static __m512i pairs_of_row(const Rows<Element>& rows, int row, int dim) {
    if (row >= rows.count || dim >= rows.dim) return _mm512_setzero_si512();
    const int count = std::min(rows.dim - dim, 32);
    const __mmask32 mask = count == 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
    return _mm512_maskz_loadu_epi16(mask, rows.data + row * rows.stride + dim);
  }

  // Numbers dim .. dim + 15 of a row, each in the low half of 32 bits.
  static __m512i spaced(const Rows<Element>& rows, int row, int dim) {
    if (row >= rows.count || dim >= rows.dim) return _mm512_setzero_si512();
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(
        first(rows.dim - dim), rows.data + row * rows.stride + dim));
  }

  // The pairs (row, row + 1) of dims dim .. dim + 15.
  static __m512i pair_of_rows(const Rows<Element>& rows, int row, int dim) {
    return _mm512_or_si512(spaced(rows, row, dim),
                           _mm512_slli_epi32(spaced(rows, row + 1, dim), 16));
  }

  static LeftOperand by_row(const Rows<Element>& rows, Arena& arena) {
    const int width = 2 * steps(rows.dim);
    if (rows.dim == width && rows.count % Matmul::kRowGranule == 0) {
      return {reinterpret_cast<const char*>(rows.data),
              rows.stride * static_cast<ptrdiff_t>(sizeof(Element)), sizeof(Unit)};
    }
    const int height = round_up(rows.count, Matmul::kRowGranule);
    Element* copy = arena.take<Element>(static_cast<size_t>(height) * width);
    for (int row = 0; row < rows.count; ++row) {
      std::memcpy(copy + row * width, rows.data + row * rows.stride, rows.dim * sizeof(Element));
      std::memset(copy + row * width + rows.dim, 0, (width - rows.dim) * sizeof(Element));
    }
    return {reinterpret_cast<const char*>(copy), width * static_cast<ptrdiff_t>(sizeof(Element)),
            sizeof(Unit)};
  }

  // Pairs of rows [dim][steps].
  static LeftOperand transposed(const Rows<Element>& rows, Arena& arena) {
    const int pairs = round_up(steps(rows.count), 16);
    const int height = round_up(rows.dim, std::max(16, Matmul::kRowGranule));
    Unit* target = arena.take<Unit>(static_cast<size_t>(height) * pairs);
    for (int pair = 0; pair < pairs; pair += 16) {
      for (int dim = 0; dim < rows.dim; dim += 16) {
        __m512i block[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) block[i] = pair_of_rows(rows, 2 * (pair + i), dim);
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
          _mm512_storeu_si512(target + (dim + i) * pairs + pair, block[i]);
        }
      }
    }
    return {reinterpret_cast<const char*>(target),
            pairs * static_cast<ptrdiff_t>(sizeof(Unit)), sizeof(Unit)};
  }
};

}  // namespace longattn::inline LONGATTN_ISA
