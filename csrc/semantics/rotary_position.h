// SPDX-License-Identifier: BSD-3-Clause
// Positions after a map, exact to about 100 bits: a position of 2^40 times an inverse frequency
// must still be known to a small part of a turn.
#pragma once

#include <cmath>

#include "semantics/integers.h"
#include "semantics/rotary.h"

namespace longattn {

// high + low, where low is at most half a unit in the last place of high.
struct ExactPosition {
  double high;
  double low;
};

inline namespace LONGATTN_ISA {

// Adding 0 in the same step keeps the compiler from contracting the product with a later sum.
LONGATTN_HOST_DEVICE double rounded_product(double a, double b) { return std::fma(a, b, 0.0); }

// Exact: high + low == a + b.
LONGATTN_HOST_DEVICE ExactPosition exact_sum(double a, double b) {
  const double sum = a + b;
  const double b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

LONGATTN_HOST_DEVICE ExactPosition exact_position(int64_t position) {
  return exact_sum(static_cast<double>(position >> 32) * 4294967296.0,
                   static_cast<double>(position & 0xffffffff));
}

LONGATTN_HOST_DEVICE ExactPosition plus(ExactPosition position, double offset) {
  const ExactPosition sum = exact_sum(position.high, offset);
  return exact_sum(sum.high, sum.low + position.low);
}

LONGATTN_HOST_DEVICE ExactPosition times(ExactPosition position, double scale) {
  const double high = rounded_product(position.high, scale);
  return exact_sum(high, std::fma(position.high, scale, -high) + position.low * scale);
}

LONGATTN_HOST_DEVICE ExactPosition divided(ExactPosition position, double divisor) {
  const double high = position.high / divisor;
  const double remainder = std::fma(-high, divisor, position.high) + position.low;
  return exact_sum(high, remainder / divisor);
}

LONGATTN_HOST_DEVICE ExactPosition rounded_down(ExactPosition position) {
  const double whole = std::floor(position.high);
  if (whole != position.high) return {whole, 0.0};
  return exact_sum(whole, std::floor(position.low));
}

LONGATTN_HOST_DEVICE ExactPosition position_at(const PositionRows& rows, int64_t batch,
                                               int64_t row) {
  if (rows.data == nullptr) return exact_position(rows.start + row);
  const int64_t index = batch * rows.batch_stride + row * rows.row_stride;
  if (rows.fractional) return {static_cast<const double*>(rows.data)[index], 0.0};
  return exact_position(static_cast<const int64_t*>(rows.data)[index]);
}

LONGATTN_HOST_DEVICE ExactPosition mapped(const PositionMap& map, ExactPosition position) {
  if (map.scale != 1.0) position = times(position, map.scale);
  if (map.divisor != 1) position = divided(position, static_cast<double>(map.divisor));
  if (map.floor) position = rounded_down(position);
  if (map.offset != 0.0) position = plus(position, map.offset);
  return position;
}

LONGATTN_HOST_DEVICE bool same_map(const PositionMap& a, const PositionMap& b) {
  return a.scale == b.scale && a.divisor == b.divisor && a.offset == b.offset && a.floor == b.floor;
}

LONGATTN_HOST_DEVICE bool same_positions(const PositionRows& a, const PositionRows& b) {
  return a.data == b.data && a.start == b.start && a.batch_stride == b.batch_stride &&
         a.row_stride == b.row_stride;
}

// Do queries and keys stand at the same positions, to be rotated alike?
LONGATTN_HOST_DEVICE bool shares_tables(const RotaryProblem& problem) {
  const RotarySide &q = problem.queries, &k = problem.keys;
  bool shares = problem.growth == nullptr && q.rows == k.rows &&
                same_positions(q.positions, k.positions);
  for (int m = 0; m < problem.map_count; ++m) shares = shares && same_map(q.maps[m], k.maps[m]);
  return shares;
}

LONGATTN_HOST_DEVICE double row_scale(const RowScale& scale, ExactPosition position) {
  if (scale.log_length == 0.0) return scale.factor;
  const double count = (position.high > 0.0 ? position.high : 0.0) + 1.0;
  const double growth = std::log(count) / scale.log_length;
  return scale.factor * (scale.at_least_one && growth < 1.0 ? 1.0 : growth);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
