// SPDX-License-Identifier: BSD-3-Clause
// The rotary pre-pass as plain data: queries and keys are biased, normalised, rotated at the
// positions of one or more maps, and scaled.
//
//   y = x + bias;  y /= max(|y|, 1e-12) if normalised;  out_m = row scale * R(map_m(position)) y
//
// where R also multiplies what it rotates by the attention factor, and by xPos's growth.
#pragma once

#include <cstdint>

#include "semantics/problem.h"

namespace longattn {

inline constexpr int kMaxRotaryMaps = 4;
inline constexpr int kMaxRotaryDim = 256;  // of head_dim
inline constexpr int kMaxPairs = kMaxRotaryDim / 2;
inline constexpr double kSmallestNorm = 1e-12;  // as torch.nn.functional.normalize

// Positions of the rows of one tensor: numbers in memory, or start, start + 1, ...
struct PositionRows {
  const void* data;  // [batch, rows] of int64, of double if fractional; null: counted
  int64_t batch_stride;
  int64_t row_stride;
  int64_t start;
  bool fractional;
};

// p -> scale * p / divisor, rounded down if `floor`, plus offset.
struct PositionMap {
  double scale;
  int64_t divisor;
  double offset;
  bool floor;
};

// What a row is multiplied with at the end: factor, and ln(position + 1) / ln(length) if there is
// a length, which is at least 1 if `at_least_one`.
struct RowScale {
  double factor;
  double log_length;  // 0: none
  bool at_least_one;
};

// Queries or keys.
struct RotarySide {
  TensorView input;                    // [batch, rows, heads, head_dim]; backward: if normalised
  TensorView rotated[kMaxRotaryMaps];  // written; backward: gradients, null where none arrives
  TensorView gradient;                 // backward only, of the input; null: not wanted
  PositionMap maps[kMaxRotaryMaps];
  PositionRows positions;
  RowScale scale;
  const void* bias;     // [heads, head_dim] of the accumulator's type; null: none
  void* bias_gradient;  // likewise, backward only; null: not wanted
  double growth_sign;   // xPos: 1 for queries, -1 for keys
  int64_t rows;
  int32_t heads;
  bool normalized;
};

struct RotaryProblem {
  RotarySide queries;
  RotarySide keys;
  int64_t batch;
  int32_t head_dim;
  int32_t rotary_dim;  // of these, the first ones are rotated
  int32_t map_count;
  bool interleaved;  // pairs are (2 i, 2 i + 1), else (i, i + rotary_dim / 2)
  double attention_factor;
  double centre;             // xPos
  const double* turns_high;  // [rotary_dim / 2]: turns a position, high + low
  const double* turns_low;
  const double* growth;  // [rotary_dim / 2]: xPos, log2 of the growth a position; null: none
  void* workspace;       // backward, as large as the engine asked for
};

inline namespace LONGATTN_ISA {

// Backward: does a gradient of this side leave the engine?
LONGATTN_HOST_DEVICE bool is_wanted(const RotarySide& side) {
  return side.gradient.data != nullptr || side.bias_gradient != nullptr;
}

LONGATTN_HOST_DEVICE int32_t total_heads(const RotaryProblem& problem) {
  return problem.queries.heads + problem.keys.heads;
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
