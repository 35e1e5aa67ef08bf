// SPDX-License-Identifier: BSD-3-Clause
#include <launch/launch.h>

#include <algorithm>
#include <type_traits>

#include "cuda/host/dispatch.h"
#include "cuda/host/grid.h"
#include "cuda/host/rotary.h"
#include "cuda/rotary/add_biases.cuh"
#include "cuda/rotary/kernel.cuh"

namespace longattn::cuda {

namespace {

bool sums_biases(const RotaryProblem& problem) {
  return problem.queries.bias_gradient != nullptr || problem.keys.bias_gradient != nullptr;
}

RotaryParameters parameters_of(const RotaryProblem& problem, float direction, bool sums) {
  RotaryParameters parameters{};
  parameters.direction = direction;
  parameters.problem = problem;
  parameters.geometry = plan_rotary(problem, sums);
  const int pairs = problem.rotary_dim / 2;
  std::copy_n(problem.turns_high, pairs, parameters.turns_high);
  std::copy_n(problem.turns_low, pairs, parameters.turns_low);
  if (problem.growth != nullptr) std::copy_n(problem.growth, pairs, parameters.growth);
  return parameters;
}

// Unlike attention, rotations take float32 too.
template <class Visit>
void with_rotary_element(ElementType type, Visit visit) {
  if (type == ElementType::kFloat32) return visit(std::type_identity<float>());
  with_element(type, visit);
}

size_t shared_bytes(const RotaryParameters& parameters) {
  return static_cast<size_t>(table_bytes_of_row(parameters.problem, parameters.geometry) *
                             parameters.geometry.rows);
}

unsigned grid_of(const RotaryGeometry& geometry) {
  return checked_grid(int64_t{geometry.slices} * geometry.head_groups);
}

void launch_rotate(const RotaryProblem& problem, ElementType type, float direction, void* stream) {
  const RotaryParameters parameters = parameters_of(problem, direction, false);
  const unsigned grid = grid_of(parameters.geometry);
  if (grid == 0) return;
  with_rotary_element(type, [&]<class Element>(std::type_identity<Element>) {
    launch("rotate", &rotate_kernel<Element>, grid,
           static_cast<unsigned>(parameters.geometry.threads()), shared_bytes(parameters), stream,
           parameters);
  });
}

void launch_backward(const RotaryProblem& problem, ElementType type, void* stream) {
  const bool sums = sums_biases(problem);
  const RotaryParameters parameters = parameters_of(problem, -1.0f, sums);
  const unsigned grid = grid_of(parameters.geometry);
  if (grid > 0) {
    with_rotary_element(type, [&]<class Element>(std::type_identity<Element>) {
      launch("rotate_backward", &rotate_backward_kernel<Element>, grid,
             static_cast<unsigned>(parameters.geometry.threads()), shared_bytes(parameters), stream,
             parameters);
    });
  }
  if (!sums) return;
  const int64_t columns = int64_t{total_heads(problem)} * problem.head_dim;
  const unsigned blocks = checked_grid(ceil_divide(columns, kBiasColumns));
  if (blocks == 0) return;
  launch("add_biases", &add_biases_kernel, blocks, kAddBiasesThreads, sizeof(AddBiasesShared),
         stream, parameters);
}

// Is the gradient of this side nothing but the inverse rotation of one gradient, or not wanted?
bool is_plain(const RotarySide& side, int32_t map_count) {
  if (!is_wanted(side)) return true;
  const auto given = std::count_if(side.rotated, side.rotated + map_count,
                                   [](const TensorView& view) { return view.data != nullptr; });
  return given == 1 && !side.normalized && side.bias_gradient == nullptr;
}

// A plain side's gradient as a rotation from one tensor to another.
RotarySide as_rotation(const RotarySide& side, int32_t map_count) {
  RotarySide rotation = side;
  rotation.bias = nullptr;
  rotation.rotated[0] = side.gradient;
  if (!is_wanted(side)) {
    rotation.heads = 0;
    return rotation;
  }
  for (int32_t map = 0; map < map_count; ++map) {
    if (side.rotated[map].data == nullptr) continue;
    rotation.input = side.rotated[map];
    rotation.maps[0] = side.maps[map];
  }
  return rotation;
}

}  // namespace

void rotate(const RotaryProblem& problem, ElementType type, void* stream) {
  launch_rotate(problem, type, 1.0f, stream);
}

int64_t rotate_backward_workspace(const RotaryProblem& problem) {
  if (!sums_biases(problem)) return 0;
  const RotaryGeometry geometry = plan_rotary(problem, true);
  return int64_t{geometry.slices} * geometry.row_lanes * total_heads(problem) * problem.head_dim;
}

void rotate_backward(const RotaryProblem& problem, ElementType type, void* stream) {
  const RotarySide &q = problem.queries, &k = problem.keys;
  if (!is_plain(q, problem.map_count) || !is_plain(k, problem.map_count)) {
    return launch_backward(problem, type, stream);
  }
  RotaryProblem rotation = problem;
  rotation.queries = as_rotation(q, problem.map_count);
  rotation.keys = as_rotation(k, problem.map_count);
  rotation.map_count = 1;
  launch_rotate(rotation, type, -1.0f, stream);
}

}  // namespace longattn::cuda
