// SPDX-License-Identifier: BSD-3-Clause
// The rotary pre-pass and its gradient: one kernel each, over all maps of queries and keys.
#pragma once

#include <ptx/barrier.h>
#include <ptx/shuffle.h>

#include "cuda/rotary/table.cuh"

namespace longattn::cuda {

// A block's dynamic shared memory; more floats follow, as many as the tables take.
struct RotaryShared {
  alignas(16) float numbers[4];
};

// What a thread works on: always the same place in the same head.
struct RotaryThread {
  int32_t unit;
  int32_t row_lane;
  int32_t head;        // of queries and keys together
  int32_t own_head;    // of its side
  int32_t side_index;  // 0: queries
  bool works;
};

LONGATTN_DEVICE RotaryThread rotary_thread(const RotaryProblem& problem,
                                           const RotaryGeometry& geometry) {
  const int32_t slot = static_cast<int32_t>(threadIdx.x) / geometry.lanes;
  RotaryThread thread;
  thread.unit = static_cast<int32_t>(threadIdx.x) % geometry.lanes;
  thread.row_lane = slot / geometry.heads;
  thread.head = static_cast<int32_t>(blockIdx.x) % geometry.head_groups * geometry.heads +
                slot % geometry.heads;
  thread.works = thread.row_lane < geometry.row_lanes && thread.head < total_heads(problem);
  thread.side_index = thread.head < problem.queries.heads ? 0 : 1;
  thread.own_head = thread.head - thread.side_index * problem.queries.heads;
  return thread;
}

LONGATTN_DEVICE TableLayout table_layout(const RotaryProblem& problem,
                                         const RotaryGeometry& geometry) {
  return {ptx::shared_address(&ptx::shared_memory<RotaryShared>()), geometry.entries(),
          problem.map_count, geometry.table_sides, geometry.rows};
}

// The sum over the threads of a vector; all lanes of the warp take part.
LONGATTN_DEVICE float sum_of_vector(float value, int32_t lanes) {
  for (int32_t distance = lanes / 2; distance > 0; distance /= 2) {
    value += ptx::shuffle_xor(value, distance);
  }
  return value;
}

LONGATTN_DEVICE float product_of(const Pairs& x, const Pairs& y) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPairsOfUnit; ++i) sum += x.a[i] * y.a[i] + x.b[i] * y.b[i];
  return sum;
}

LONGATTN_DEVICE void add(Pairs& sum, const Pairs& x) {
#pragma unroll
  for (int i = 0; i < kPairsOfUnit; ++i) {
    sum.a[i] += x.a[i];
    sum.b[i] += x.b[i];
  }
}

LONGATTN_DEVICE Pairs zero_pairs() {
  Pairs zeros;
#pragma unroll
  for (int i = 0; i < kPairsOfUnit; ++i) zeros.a[i] = zeros.b[i] = 0.0f;
  return zeros;
}

// The thread's numbers of one vector of floats, such as a bias.
LONGATTN_DEVICE Pairs load_floats_of(const void* vectors, int32_t head, int32_t head_dim,
                                     const UnitPlace& place) {
  if (vectors == nullptr) return zero_pairs();
  const float* vector = static_cast<const float*>(vectors) + int64_t{head} * head_dim;
  float first[8], second[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    first[i] = i < place.first_count ? vector[place.first + i] : 0.0f;
    second[i] = i < place.second_count ? vector[place.second + i] : 0.0f;
  }
  return paired(first, second, place.interleaved);
}

LONGATTN_DEVICE void store_floats_of(float* vector, const UnitPlace& place, const Pairs& pairs) {
  float first[8], second[8];
  unpaired(pairs, first, second, place.interleaved);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < place.first_count) vector[place.first + i] = first[i];
    if (i < place.second_count) vector[place.second + i] = second[i];
  }
}

LONGATTN_DEVICE float inverse_norm(float squares) {
  const float norm = sqrtf(squares), smallest = static_cast<float>(kSmallestNorm);
  return 1.0f / (norm < smallest ? smallest : norm);
}

template <class Element>
__global__ void __launch_bounds__(kMostRotaryThreads)
    rotate_kernel(const __grid_constant__ RotaryParameters parameters) {
  const RotaryProblem& problem = parameters.problem;
  const RotaryGeometry& geometry = parameters.geometry;
  const RotaryThread thread = rotary_thread(problem, geometry);
  const RotarySide& side = thread.side_index == 0 ? problem.queries : problem.keys;
  const UnitPlace place = unit_place(problem, geometry, thread.unit);
  const TableLayout layout = table_layout(problem, geometry);
  const int64_t chunk = blockIdx.x / geometry.head_groups;
  const int64_t batch = chunk / geometry.chunks_of_entry;
  const int64_t first_row = chunk % geometry.chunks_of_entry * geometry.rows;

  // The loads are on their way while the tables are made.
  RawUnit<Element> raw[kRowsOfThread] = {};
#pragma unroll
  for (int i = 0; i < kRowsOfThread; ++i) {
    const int64_t row = first_row + thread.row_lane + i * geometry.row_lanes;
    if (!thread.works || row >= side.rows) continue;
    raw[i] = load_unit(row_pointer<const Element>(side.input, batch, row, thread.own_head), place);
  }
  fill_tables(parameters, layout, batch, first_row, static_cast<int32_t>(blockDim.x));
  ptx::synchronize_block();  // the tables are there

  const bool normalizes = problem.queries.normalized || problem.keys.normalized;
#pragma unroll
  for (int i = 0; i < kRowsOfThread; ++i) {
    const int32_t row_of_chunk = thread.row_lane + i * geometry.row_lanes;
    const int64_t row = first_row + row_of_chunk;
    const bool works = thread.works && row < side.rows;
    Pairs x = pairs_of<Element>(raw[i], place);
    if (works && side.bias != nullptr) {
      add(x, load_floats_of(side.bias, thread.own_head, problem.head_dim, place));
    }
    float squares = 0.0f;
    if (normalizes) squares = sum_of_vector(product_of(x, x), geometry.lanes);
    if (!works) continue;
    float scale = ptx::load_shared_float(layout.scale(thread.side_index, row_of_chunk));
    if (side.normalized) scale *= inverse_norm(squares);
    for (int32_t map = 0; map < problem.map_count; ++map) {
      const UnitTable table = unit_table(layout, row_of_chunk, map, thread.side_index, thread.unit);
      store_unit(row_pointer<Element>(side.rotated[map], batch, row, thread.own_head), place,
                 raw_of<Element>(rotated(x, table, scale), place));
    }
  }
}

// Partial sums of the gradients of biases: [slices][row_lanes][heads][head_dim].
LONGATTN_DEVICE float* bias_sums(const RotaryParameters& parameters, int64_t slice,
                                 int32_t row_lane, int32_t head) {
  const int64_t part = slice * parameters.geometry.row_lanes + row_lane;
  const int64_t vector = part * total_heads(parameters.problem) + head;
  return static_cast<float*>(parameters.problem.workspace) + vector * parameters.problem.head_dim;
}

template <class Element>
__global__ void __launch_bounds__(kMostRotaryThreads)
    rotate_backward_kernel(const __grid_constant__ RotaryParameters parameters) {
  const RotaryProblem& problem = parameters.problem;
  const RotaryGeometry& geometry = parameters.geometry;
  const RotaryThread thread = rotary_thread(problem, geometry);
  const RotarySide& side = thread.side_index == 0 ? problem.queries : problem.keys;
  const UnitPlace place = unit_place(problem, geometry, thread.unit);
  const TableLayout layout = table_layout(problem, geometry);
  const bool thread_works = thread.works && is_wanted(side);
  const bool normalizes = problem.queries.normalized || problem.keys.normalized;
  const int64_t slice = blockIdx.x / geometry.head_groups;
  Pairs sums = zero_pairs();

  for (int64_t chunk = geometry.first_chunk(slice); chunk < geometry.first_chunk(slice + 1);
       ++chunk) {
    const int64_t batch = chunk / geometry.chunks_of_entry;
    const int64_t first_row = chunk % geometry.chunks_of_entry * geometry.rows;
    if (chunk != geometry.first_chunk(slice)) ptx::synchronize_block();  // tables have been read
    fill_tables(parameters, layout, batch, first_row, static_cast<int32_t>(blockDim.x));
    ptx::synchronize_block();  // the tables of this chunk are there
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int32_t row_of_chunk = thread.row_lane + i * geometry.row_lanes;
      const int64_t row = first_row + row_of_chunk;
      const bool works = thread_works && row < side.rows;
      Pairs gradient = zero_pairs(), x = zero_pairs();
      if (works) {
        const float scale = ptx::load_shared_float(layout.scale(thread.side_index, row_of_chunk));
        for (int32_t map = 0; map < problem.map_count; ++map) {
          const TensorView& given = side.rotated[map];
          if (given.data == nullptr) continue;
          const RawUnit<Element> raw =
              load_unit(row_pointer<const Element>(given, batch, row, thread.own_head), place);
          const UnitTable table =
              unit_table(layout, row_of_chunk, map, thread.side_index, thread.unit);
          add(gradient, rotated(pairs_of<Element>(raw, place), table, scale));
        }
        if (side.normalized) {
          x = pairs_of<Element>(
              load_unit(row_pointer<const Element>(side.input, batch, row, thread.own_head), place),
              place);
          if (side.bias != nullptr) {
            add(x, load_floats_of(side.bias, thread.own_head, problem.head_dim, place));
          }
        }
      }
      if (normalizes) {
        // (g - n (n . g)) / |x| with n = x / |x|; no n where the norm is clamped.
        const float squares = sum_of_vector(product_of(x, x), geometry.lanes);
        const float along = sum_of_vector(product_of(x, gradient), geometry.lanes);
        if (works && side.normalized) {
          const float inverse = inverse_norm(squares);
          const bool is_clamped = sqrtf(squares) < static_cast<float>(kSmallestNorm);
          const float share = is_clamped ? 0.0f : -along * inverse * inverse;
#pragma unroll
          for (int i = 0; i < kPairsOfUnit; ++i) {
            gradient.a[i] = (gradient.a[i] + share * x.a[i]) * inverse;
            gradient.b[i] = (gradient.b[i] + share * x.b[i]) * inverse;
          }
        }
      }
      if (!works) continue;
      add(sums, gradient);
      if (side.gradient.data == nullptr) continue;
      store_unit(row_pointer<Element>(side.gradient, batch, row, thread.own_head), place,
                 raw_of<Element>(gradient, place));
    }
  }
  if (!thread.works || side.bias_gradient == nullptr) return;
  store_floats_of(bias_sums(parameters, slice, thread.row_lane, thread.head), place, sums);
}

}  // namespace longattn::cuda
