// SPDX-License-Identifier: BSD-3-Clause
// What the rotary kernels are launched with, and how threads share the work.
//
// A vector of one head is dealt to `lanes` threads, 16 numbers each, which form a slot. The slots
// of a block are heads times rows; a thread keeps its head and its place in it, so that biases and
// the sums of their gradients stay in registers. A block makes the cosines and sines of its rows
// once, in shared memory.
#pragma once

#include <algorithm>

#include "semantics/integers.h"
#include "semantics/rotary_position.h"

namespace longattn::cuda {

inline constexpr int kNumbersOfUnit = 16;  // of a thread: 8 pairs
inline constexpr int kPairsOfUnit = 8;
inline constexpr int kMostRotaryThreads = 256;
inline constexpr int kRowsOfThread = 2;  // loaded before the tables are made
inline constexpr int kTableBytes = 40 * 1024;
inline constexpr int kMaxBiasSlices = 256;

struct RotaryGeometry {
  int32_t lanes;       // threads of a vector, a power of 2
  int32_t pair_units;  // of these, as many hold pairs that are rotated
  int32_t heads;       // of a block
  int32_t head_groups;
  int32_t row_lanes;    // rows that a block works on at a time
  int32_t rows;         // of a chunk
  int32_t table_sides;  // 1: queries and keys share tables
  bool vectorized;      // all accesses are 16 bytes
  int64_t chunks_of_entry;
  int64_t chunks;
  int32_t slices;  // blocks of a head group, which share the chunks

  LONGATTN_HOST_DEVICE int32_t entries() const { return lanes * kPairsOfUnit; }
  LONGATTN_HOST_DEVICE int64_t first_chunk(int64_t slice) const { return slice * chunks / slices; }
  int threads() const { return (lanes * heads * row_lanes + 31) / 32 * 32; }
};

struct RotaryParameters {
  RotaryProblem problem;  // its tables are those below: pointers to them mean nothing on a device
  RotaryGeometry geometry;
  float direction;  // -1: the inverse rotation
  double turns_high[kMaxPairs];
  double turns_low[kMaxPairs];
  double growth[kMaxPairs];
};

static_assert(sizeof(RotaryParameters) <= 4096, "a kernel takes no more on every toolkit");

inline int64_t table_bytes_of_row(const RotaryProblem& problem, const RotaryGeometry& geometry) {
  const int64_t tables = int64_t{problem.map_count} * geometry.table_sides;
  return (tables * 2 * geometry.entries() + 2) * static_cast<int64_t>(sizeof(float));
}

// Depends on the problem alone, so that sums are always made in one order.
inline RotaryGeometry plan_rotary(const RotaryProblem& problem, bool sums_biases) {
  RotaryGeometry plan{};
  const int half = problem.rotary_dim / 2;
  const int rest = problem.head_dim - problem.rotary_dim;
  plan.vectorized = problem.head_dim % 8 == 0 && (problem.interleaved || half % 8 == 0);
  plan.pair_units = (problem.interleaved ? problem.head_dim / 2 : half) + kPairsOfUnit - 1;
  plan.pair_units /= kPairsOfUnit;
  const int units =
      plan.pair_units + (problem.interleaved ? 0 : (rest + kNumbersOfUnit - 1) / kNumbersOfUnit);
  plan.lanes = 1;
  while (plan.lanes < units) plan.lanes *= 2;
  plan.table_sides = shares_tables(problem) ? 1 : 2;

  const int slots = kMostRotaryThreads / plan.lanes;
  const int heads = total_heads(problem);
  plan.head_groups = static_cast<int32_t>(ceil_divide(heads, slots));
  plan.heads = static_cast<int32_t>(ceil_divide(heads, std::max(plan.head_groups, 1)));
  const int64_t fit = kTableBytes / table_bytes_of_row(problem, plan) / kRowsOfThread;
  plan.row_lanes = static_cast<int32_t>(clamp(slots / std::max(plan.heads, 1), 1, larger(fit, 1)));
  plan.rows = plan.row_lanes * kRowsOfThread;
  plan.chunks_of_entry = ceil_divide(std::max(problem.queries.rows, problem.keys.rows), plan.rows);
  plan.chunks = problem.batch * plan.chunks_of_entry;
  plan.slices = static_cast<int32_t>(sums_biases ? std::min<int64_t>(plan.chunks, kMaxBiasSlices)
                                                 : plan.chunks);
  return plan;
}

}  // namespace longattn::cuda
