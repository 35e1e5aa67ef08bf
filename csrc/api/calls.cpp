// SPDX-License-Identifier: BSD-3-Clause
#include "api/calls.h"

#include "api/argument_pack.h"
#include "api/lower_bands.h"

namespace longattn::api {

namespace {

Executor read_executor(ArgumentPack& pack) {
  return {pack.small(), pack.small(), pack.pointer<void>()};
}

template <class ProblemType>
void read_common(ArgumentPack& pack, const Integers& rules, const Scales& scales,
                 Call<ProblemType>& call) {
  call.type = pack.element_type();
  call.executor = read_executor(pack);
  Problem& problem = call.problem;
  problem.q = pack.tensor();
  problem.k = pack.tensor();
  problem.v = pack.tensor();
  problem.layout = pack.layout();
  problem.q_heads = pack.small();
  problem.kv_heads = pack.small();
  problem.head_dim = pack.small();
  problem.value_dim = pack.small();
  problem.softmax_scale = scales[0];
  problem.softcap = scales[1];
  problem.bias = pack.bias();
  // A dilated view's band is said in rows of the view, whatever their position.
  const bool positions = problem.layout.split == Split::kBatch;
  lower_bands(rules, positions ? problem.layout.k_start : 0, problem.q_heads, call.bands);
  problem.bands = &call.bands;
}

}  // namespace

void read_forward(const Integers& values, const Integers& rules, const Scales& scales,
                  Call<ForwardProblem>& call) {
  ArgumentPack pack(values);
  read_common(pack, rules, scales, call);
  call.problem.out = pack.tensor();
  call.problem.lse = pack.row();
  call.problem.merge = pack.integer() != 0;
  call.problem.sink_logits = pack.pointer<const void>();
  pack.expect_end();
}

void read_backward(const Integers& values, const Integers& rules, const Scales& scales,
                   Call<BackwardProblem>& call) {
  ArgumentPack pack(values);
  read_common(pack, rules, scales, call);
  call.problem.dout = pack.tensor();
  call.problem.lse = pack.row();
  call.problem.delta = pack.row();
  call.problem.dq = pack.tensor();
  call.problem.dk = pack.tensor();
  call.problem.dv = pack.tensor();
  call.problem.bias_gradient = pack.bias_gradient();
  call.problem.workspace = pack.pointer<void>();
  call.problem.workspace_size = pack.integer();
  call.problem.writes = pack.integer() != 0;
  pack.expect_end();
}

void read_backward_sizes(const Integers& values, const Integers& rules, const Scales& scales,
                         Call<BackwardProblem>& call) {
  ArgumentPack pack(values);
  read_common(pack, rules, scales, call);
  call.problem.writes = pack.integer() != 0;
  pack.expect_end();
}

RowDotCall read_row_dot(const Integers& values) {
  ArgumentPack pack(values);
  RowDotCall call{};
  call.type = pack.element_type();
  call.executor = read_executor(pack);
  call.problem.dout = pack.tensor();
  call.problem.out = pack.tensor();
  call.problem.dlse = pack.row();
  call.problem.delta = pack.row();
  call.problem.batch = pack.integer();
  call.problem.q_len = pack.integer();
  call.problem.q_heads = pack.small();
  call.problem.value_dim = pack.small();
  call.problem.out_is_accumulator = pack.integer() != 0;
  pack.expect_end();
  return call;
}

}  // namespace longattn::api
