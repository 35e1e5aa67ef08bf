// SPDX-License-Identifier: BSD-3-Clause
#include "api/bind_cpu.h"

#include <pybind11/stl.h>

#include "api/calls.h"
#include "api/rotary_call.h"
#include "cpu/engine.h"
#include "cpu/huge_pages.h"
#include "cpu/rotary_engine.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"

namespace longattn {

namespace {

using api::Integers;
using api::Scales;

void forward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<ForwardProblem> call;
  api::read_forward(pack, rules, scales, call);
  cpu::forward(call.problem, call.type, call.executor.threads);
}

void backward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<BackwardProblem> call;
  api::read_backward(pack, rules, scales, call);
  cpu::backward(call.problem, call.type, call.executor.threads);
}

void row_dot(const Integers& pack) {
  const api::RowDotCall call = api::read_row_dot(pack);
  cpu::row_dot(call.problem, call.type, call.executor.threads);
}

std::pair<int64_t, int64_t> backward_sizes(const Integers& pack, const Integers& rules,
                                          const Scales& scales) {
  api::Call<BackwardProblem> call;
  api::read_backward_sizes(pack, rules, scales, call);
  const BackwardSizes sizes = cpu::backward_sizes(call.problem, call.executor.threads);
  return {sizes.workspace, sizes.bias_shares};
}

void rotate(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  cpu::rotate(call.problem, call.type, call.executor.threads);
}

void rotate_backward(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  cpu::rotate_backward(call.problem, call.type, call.executor.threads);
}

int64_t rotate_backward_workspace(const Integers& pack, const api::Numbers& numbers) {
  return cpu::rotate_backward_workspace(api::read_rotary(pack, numbers).problem);
}

void advise_huge_pages(uintptr_t address, int64_t bytes) {
  cpu::advise_huge_pages(reinterpret_cast<void*>(address), bytes);
}

}  // namespace

void bind_cpu(pybind11::module_& module) {
  using WithoutGil = pybind11::call_guard<pybind11::gil_scoped_release>;
  module.def("forward", &forward, WithoutGil());
  module.def("backward", &backward, WithoutGil());
  module.def("row_dot", &row_dot, WithoutGil());
  module.def("backward_sizes", &backward_sizes);
  module.def("rotate", &rotate, WithoutGil());
  module.def("rotate_backward", &rotate_backward, WithoutGil());
  module.def("rotate_backward_workspace", &rotate_backward_workspace);
  module.def("advise_huge_pages", &advise_huge_pages);
  module.def("visited_tiles", &cpu::take_visited_tiles);
  module.def("isa", &cpu::chosen_isa);
  module.def("compiled_isas", &cpu::compiled_isas);
  module.def("supported_isas", &cpu::supported_isas);
  module.def("tile_sizes", [] { return pybind11::make_tuple(kQueryTile, kKeyTile); });
}

}  // namespace longattn
