// SPDX-License-Identifier: BSD-3-Clause
// Cosines and sines of a chunk's rows in shared memory, made by all threads of the block. Double
// precision is used here alone: once for a row and a pair, whatever the number of heads.
#pragma once

#include <ptx/math.h>
#include <ptx/memory.h>

#include "cuda/rotary/unit.cuh"
#include "semantics/rotary_angle.h"

namespace longattn::cuda {

struct CosineSine {
  float cosine;
  float sine;
};

LONGATTN_DEVICE CosineSine cosine_and_sine(ReducedAngle angle) {
  using Polynomial = SineAndCosine<float>;
  constexpr float s0 = Polynomial::kSine[0], s1 = Polynomial::kSine[1], s2 = Polynomial::kSine[2];
  constexpr float c0 = Polynomial::kCosine[0], c1 = Polynomial::kCosine[1],
                  c2 = Polynomial::kCosine[2];
  const float rest = static_cast<float>(angle.rest);
  const float square = rest * rest;
  const float sine = ((s2 * square + s1) * square + s0) * square * rest + rest;
  const float cosine = (((c2 * square + c1) * square + c0) * square - 0.5f) * square + 1.0f;
  const float c = static_cast<float>(cosine_of_quarters(angle.quarters));
  const float s = static_cast<float>(sine_of_quarters(angle.quarters));
  return {c * cosine - s * sine, s * cosine + c * sine};
}

// Float addresses in shared memory: [row][map][side] of `entries` cosines and as many sines, then
// the scales of the rows, [side][row].
struct TableLayout {
  uint32_t base;
  int32_t entries;
  int32_t maps;
  int32_t sides;
  int32_t rows;

  LONGATTN_DEVICE uint32_t table(int32_t row, int32_t map, int32_t side) const {
    const int32_t index = (row * maps + map) * sides + (sides == 1 ? 0 : side);
    return base + static_cast<uint32_t>(index * 2 * entries * 4);
  }
  LONGATTN_DEVICE uint32_t scale(int32_t side, int32_t row) const {
    return base +
           static_cast<uint32_t>((rows * maps * sides * 2 * entries + side * rows + row) * 4);
  }
};

LONGATTN_DEVICE CosineSine table_entry(const RotaryParameters& parameters, const RotarySide& side,
                                       ExactPosition position, int32_t map, int32_t pair) {
  const RotaryProblem& problem = parameters.problem;
  if (pair >= problem.rotary_dim / 2) return {1.0f, 0.0f};  // what passes
  position = mapped(side.maps[map], position);
  CosineSine entry = cosine_and_sine(
      reduced_angle(position, parameters.turns_high[pair], parameters.turns_low[pair]));
  float factor = static_cast<float>(problem.attention_factor);
  if (problem.growth != nullptr) {
    const double distance = (position.high - problem.centre) + position.low;
    const double exponent = side.growth_sign * distance * parameters.growth[pair];
    const double whole = std::rint(exponent);
    factor *= ptx::exp2_approximate(static_cast<float>(exponent - whole));
    factor *= ptx::exp2_approximate(static_cast<float>(whole));
  }
  return {entry.cosine * factor, entry.sine * factor};
}

LONGATTN_DEVICE void fill_tables(const RotaryParameters& parameters, const TableLayout& layout,
                                 int64_t batch, int64_t first_row, int32_t threads) {
  const RotaryProblem& problem = parameters.problem;
  const int32_t count = layout.rows * layout.maps * layout.sides * layout.entries;
  for (int32_t i = threadIdx.x; i < count; i += threads) {
    const int32_t pair = i % layout.entries, table = i / layout.entries;
    const int32_t which = table % layout.sides, map = table / layout.sides % layout.maps;
    const int32_t row = table / layout.sides / layout.maps;
    const RotarySide& side = which == 0 ? problem.queries : problem.keys;
    // Shared tables serve the longer of the two; a row beyond the end has no position to read.
    const int64_t rows =
        layout.sides == 1 ? larger(problem.queries.rows, problem.keys.rows) : side.rows;
    if (first_row + row >= rows) continue;
    const ExactPosition position = position_at(side.positions, batch, first_row + row);
    const CosineSine entry = table_entry(parameters, side, position, map, pair);
    const uint32_t address = layout.table(row, map, which) + static_cast<uint32_t>(pair) * 4;
    ptx::store_shared_float(address, entry.cosine);
    ptx::store_shared_float(address + static_cast<uint32_t>(layout.entries) * 4,
                            parameters.direction * entry.sine);
  }
  for (int32_t i = threadIdx.x; i < 2 * layout.rows; i += threads) {
    const int32_t which = i / layout.rows, row = i % layout.rows;
    const RotarySide& side = which == 0 ? problem.queries : problem.keys;
    if (first_row + row >= side.rows) continue;
    const ExactPosition position = position_at(side.positions, batch, first_row + row);
    ptx::store_shared_float(layout.scale(which, row),
                            static_cast<float>(row_scale(side.scale, position)));
  }
}

// A thread's eight entries of a table.
struct UnitTable {
  float cosine[kPairsOfUnit];
  float sine[kPairsOfUnit];
};

LONGATTN_DEVICE void load_floats(float (&floats)[8], uint32_t address) {
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    const uint4 part = ptx::load_shared_16(address + 4 * i);
    floats[i] = float_of(part.x);
    floats[i + 1] = float_of(part.y);
    floats[i + 2] = float_of(part.z);
    floats[i + 3] = float_of(part.w);
  }
}

LONGATTN_DEVICE UnitTable unit_table(const TableLayout& layout, int32_t row, int32_t map,
                                     int32_t side, int32_t unit) {
  UnitTable table;
  const uint32_t address = layout.table(row, map, side) + unit * kPairsOfUnit * 4;
  load_floats(table.cosine, address);
  load_floats(table.sine, address + static_cast<uint32_t>(layout.entries) * 4);
  return table;
}

LONGATTN_DEVICE Pairs rotated(const Pairs& x, const UnitTable& table, float scale) {
  Pairs result;
#pragma unroll
  for (int i = 0; i < kPairsOfUnit; ++i) {
    const float a = x.a[i] * scale, b = x.b[i] * scale;
    result.a[i] = a * table.cosine[i] - b * table.sine[i];
    result.b[i] = b * table.cosine[i] + a * table.sine[i];
  }
  return result;
}

}  // namespace longattn::cuda
