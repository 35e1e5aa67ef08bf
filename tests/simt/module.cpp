// SPDX-License-Identifier: BSD-3-Clause
// The Python module _simt: the CUDA engine, run by the emulator. For tests only.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "api/calls.h"
#include "api/rotary_call.h"
#include "cuda/backward/sm80/config.h"
#include "cuda/forward/sm80/config.h"
#include "cuda/host/engine.h"
#include "cuda/host/rotary.h"
#include "machine/counts.h"
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
  api::Call<BackwardProblem> call;
  api::read_backward_sizes(pack, rules, scales, call);
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

// Visits of tiles, of which every kernel makes a product of its own number of matrices.
struct Visit {
  const char* kernel;
  int queries, keys;  // of a tile
  int64_t products;   // mma.m16n8k16 of one visit
};

template <class Config, int kCount>
Visit visit_of(const char* kernel, const Config (&configs)[kCount], int dim, int matrices) {
  const Config* config = configs;
  while (config->head_dim < dim) ++config;
  const int64_t numbers = int64_t{config->query_tile} * config->key_tile * config->head_dim;
  return {kernel, config->query_tile, config->key_tile, matrices * numbers / (16 * 8 * 16)};
}

// kernel -> (queries of a tile, keys of a tile, visits since the last call) of those that were
// launched, where the larger of head_dim and value_dim has been `dim` since then.
pybind11::dict take_visits(int dim) {
  pybind11::dict result;
  std::map<std::string, uint64_t> products = simt::take_products();
  for (const Visit& visit : {
           visit_of("forward", cuda::kForwardConfigs, dim, 2),
           visit_of("query_gradient", cuda::kQueryGradientConfigs, dim, 3),
           visit_of("key_gradient", cuda::kKeyGradientConfigs, dim, 4),
           visit_of("bias_gradient", cuda::kBiasGradientConfigs, dim, 2),
       }) {
    if (!products.contains(visit.kernel)) continue;
    result[visit.kernel] = pybind11::make_tuple(visit.queries, visit.keys,
                                                products[visit.kernel] / double(visit.products));
  }
  return result;
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
  module.def("take_visits", &take_visits);
  module.def("plant", [](int bug) { simt::planted_bug = bug; });
}
