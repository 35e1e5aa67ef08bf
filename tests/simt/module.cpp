// SPDX-License-Identifier: BSD-3-Clause
// The Python module _simt: the CUDA engine, run by the emulator. For tests only.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "api/calls.h"
#include "api/rotary_call.h"
#include "cuda/host/engine.h"
#include "cuda/host/rotary.h"
#include "machine/planted.h"
#include "machine/settings.h"

namespace {

using namespace longattn;
using api::Integers;
using api::Scales;

void forward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<ForwardProblem> call;
  api::read_forward(pack, rules, scales, call);
  cuda::forward(call.problem, call.bands, call.type, nullptr);
}

void backward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<BackwardProblem> call;
  api::read_backward(pack, rules, scales, call);
  cuda::backward(call.problem, call.bands, call.type, nullptr);
}

std::pair<int64_t, int64_t> backward_sizes(const Integers& pack, const Integers& rules,
                                          const Scales& scales) {
  api::Call<Problem> call;
  api::read_problem(pack, rules, scales, call);
  const BackwardSizes sizes = cuda::backward_sizes(call.problem, call.bands);
  return {sizes.workspace, sizes.bias_shares};
}

void row_dot(const Integers& pack) {
  const api::RowDotCall call = api::read_row_dot(pack);
  cuda::row_dot(call.problem, call.type, nullptr);
}

void rotate(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  cuda::rotate(call.problem, call.type, nullptr);
}

void rotate_backward(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  cuda::rotate_backward(call.problem, call.type, nullptr);
}

int64_t rotate_backward_workspace(const Integers& pack, const api::Numbers& numbers) {
  return cuda::rotate_backward_workspace(api::read_rotary(pack, numbers).problem);
}

void configure(const std::string& order, const std::string& async, uint64_t seed) {
  simt::settings().order = simt::order_named(order);
  simt::settings().async = simt::async_named(async);
  simt::settings().seed = seed;
}

}  // namespace

PYBIND11_MODULE(_simt, module) {
  module.def("forward", &forward);
  module.def("backward", &backward);
  module.def("backward_sizes", &backward_sizes);
  module.def("row_dot", &row_dot);
  module.def("rotate", &rotate);
  module.def("rotate_backward", &rotate_backward);
  module.def("rotate_backward_workspace", &rotate_backward_workspace);
  module.def("configure", &configure, pybind11::arg("order") = "round_robin",
             pybind11::arg("async_copies") = "lazy", pybind11::arg("seed") = 1);
  module.def("plant", [](int bug) { simt::planted_bug = bug; });
}
