// SPDX-License-Identifier: BSD-3-Clause
// The Python module longattn._native: one line an operation.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "api/attention.h"
#include "api/bind_cuda.h"
#include "cpu/engine.h"
#include "cpu/select_isa.h"
#include "cpu/tile_sizes.h"

namespace py = pybind11;

PYBIND11_MODULE(_native, module) {
  using namespace longattn;
  using WithoutGil = py::call_guard<py::gil_scoped_release>;
  module.doc() = "The native engines of longattn; longattn/native.py is the way in.";
  module.def("forward", &api::forward, WithoutGil());
  module.def("backward", &api::backward, WithoutGil());
  module.def("row_dot", &api::row_dot, WithoutGil());
  module.def("backward_slices", &api::backward_slices);
  module.def("visited_tiles", &cpu::take_visited_tiles);
  module.def("isa", &cpu::chosen_isa);
  module.def("compiled_isas", &cpu::compiled_isas);
  module.def("supported_isas", &cpu::supported_isas);
  module.def("tile_sizes", [] { return py::make_tuple(kQueryTile, kKeyTile); });
  bind_cuda(module);
}
