// SPDX-License-Identifier: BSD-3-Clause
#include "api/bind_cuda.h"

#include <pybind11/stl.h>

#include <string>

#include "api/calls.h"
#include "api/rotary_call.h"
#include "cuda/host/device_guard.h"
#include "cuda/host/device_query.h"
#include "cuda/host/engine.h"
#include "cuda/host/rotary.h"
#include "cuda/host/versions.h"

namespace py = pybind11;

namespace longattn {
namespace {

py::object version_or_none(int version) {
  if (version == 0) return py::none();
  return py::str(cuda::version_text(version));
}

py::object text_or_none(const std::string& text) {
  if (text.empty()) return py::none();
  return py::str(text);
}

py::dict device_dict(const cuda::Device& device) {
  py::dict result;
  result["name"] = device.name;
  result["compute_capability"] = py::make_tuple(device.major, device.minor);
  result["multiprocessors"] = device.multiprocessors;
  result["memory_bytes"] = device.memory_bytes;
  result["shared_memory_per_block_bytes"] = device.shared_memory_per_block_bytes;
  result["reason"] = text_or_none(device.reason);
  return result;
}

// Starting the driver can take seconds.
cuda::DeviceQuery query_without_gil() {
  py::gil_scoped_release released;
  return cuda::query_devices();
}

py::tuple cuda_versions() {
  const cuda::DeviceQuery query = query_without_gil();
  return py::make_tuple(version_or_none(query.driver_version),
                        version_or_none(query.runtime_version));
}

py::list cuda_devices() {
  py::list result;
  for (const cuda::Device& device : query_without_gil().devices) result.append(device_dict(device));
  return result;
}

using api::Integers;
using api::Scales;

void forward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<ForwardProblem> call;
  api::read_forward(pack, rules, scales, call);
  const cuda::DeviceGuard guard(call.executor.device);
  cuda::forward(call.problem, call.bands, call.type, call.executor.stream);
}

void backward(const Integers& pack, const Integers& rules, const Scales& scales) {
  api::Call<BackwardProblem> call;
  api::read_backward(pack, rules, scales, call);
  const cuda::DeviceGuard guard(call.executor.device);
  cuda::backward(call.problem, call.bands, call.type, call.executor.stream);
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
  const cuda::DeviceGuard guard(call.executor.device);
  cuda::row_dot(call.problem, call.type, call.executor.stream);
}

void rotate(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  const cuda::DeviceGuard guard(call.executor.device);
  cuda::rotate(call.problem, call.type, call.executor.stream);
}

void rotate_backward(const Integers& pack, const api::Numbers& numbers) {
  const api::RotaryCall call = api::read_rotary(pack, numbers);
  const cuda::DeviceGuard guard(call.executor.device);
  cuda::rotate_backward(call.problem, call.type, call.executor.stream);
}

int64_t rotate_backward_workspace(const Integers& pack, const api::Numbers& numbers) {
  return cuda::rotate_backward_workspace(api::read_rotary(pack, numbers).problem);
}

// The submodule `cuda`: an engine like the CPU's.
void bind_engine(py::module_ module) {
  using WithoutGil = py::call_guard<py::gil_scoped_release>;
  module.def("forward", &forward, WithoutGil());
  module.def("backward", &backward, WithoutGil());
  module.def("backward_sizes", &backward_sizes);
  module.def("row_dot", &row_dot, WithoutGil());
  module.def("rotate", &rotate, WithoutGil());
  module.def("rotate_backward", &rotate_backward, WithoutGil());
  module.def("rotate_backward_workspace", &rotate_backward_workspace);
}

}  // namespace

void bind_cuda(py::module_& module) {
  bind_engine(module.def_submodule("cuda"));
  module.def("cuda_built", [] { return true; });
  module.def("cuda_architectures", &cuda::compiled_architectures);
  module.def("cuda_versions", &cuda_versions);
  module.def("cuda_devices", &cuda_devices);
  module.def("cuda_reason", [] { return text_or_none(query_without_gil().reason); });
}

}  // namespace longattn
