// SPDX-License-Identifier: BSD-3-Clause
#include "api/attention.h"

#include "api/argument_pack.h"
#include "api/lower_bands.h"
#include "cpu/engine.h"

namespace longattn::api {

namespace {

// The part that forward and backward share; `table` must outlive the problem.
void read_problem(ArgumentPack& pack, const Integers& rules, double softmax_scale,
                  BandTable& table, Problem& problem) {
  problem.q = pack.tensor();
  problem.k = pack.tensor();
  problem.v = pack.tensor();
  problem.layout = pack.layout();
  problem.q_heads = pack.small();
  problem.kv_heads = pack.small();
  problem.head_dim = pack.small();
  problem.value_dim = pack.small();
  problem.softmax_scale = softmax_scale;
  // A dilated view's band is said in rows of the view, whatever their position.
  const bool positions = problem.layout.split == Split::kBatch;
  lower_bands(rules, positions ? problem.layout.k_start : 0, problem.q_heads, table);
  problem.bands = &table;
}

}  // namespace

void forward(const Integers& values, const Integers& rules, double softmax_scale) {
  ArgumentPack pack(values);
  const ElementType type = pack.element_type();
  const int32_t threads = pack.small();
  BandTable table;
  ForwardProblem problem{};
  read_problem(pack, rules, softmax_scale, table, problem);
  problem.out = pack.tensor();
  problem.lse = pack.row();
  problem.merge = pack.integer() != 0;
  pack.expect_end();
  cpu::forward(problem, type, threads);
}

void backward(const Integers& values, const Integers& rules, double softmax_scale) {
  ArgumentPack pack(values);
  const ElementType type = pack.element_type();
  const int32_t threads = pack.small();
  BandTable table;
  BackwardProblem problem{};
  read_problem(pack, rules, softmax_scale, table, problem);
  problem.dout = pack.tensor();
  problem.lse = pack.row();
  problem.delta = pack.row();
  problem.dq = pack.tensor();
  problem.dk = pack.tensor();
  problem.dv = pack.tensor();
  problem.dk_slice_stride = pack.integer();
  problem.dv_slice_stride = pack.integer();
  problem.slices = pack.small();
  pack.expect_end();
  cpu::backward(problem, type, threads);
}

void row_dot(const Integers& values) {
  ArgumentPack pack(values);
  const ElementType type = pack.element_type();
  const int32_t threads = pack.small();
  RowDotProblem problem{};
  problem.dout = pack.tensor();
  problem.out = pack.tensor();
  problem.dlse = pack.row();
  problem.delta = pack.row();
  problem.batch = pack.integer();
  problem.q_len = pack.integer();
  problem.q_heads = pack.small();
  problem.value_dim = pack.small();
  problem.out_is_accumulator = pack.integer() != 0;
  pack.expect_end();
  cpu::row_dot(problem, type, threads);
}

int32_t backward_slices(const Integers& values) {
  ArgumentPack pack(values);
  const SequenceLayout layout = pack.layout();
  const int32_t kv_heads = pack.small();
  pack.expect_end();
  return cpu::backward_slices(layout, kv_heads);
}

}  // namespace longattn::api
