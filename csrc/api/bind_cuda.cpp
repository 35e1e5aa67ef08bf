// SPDX-License-Identifier: BSD-3-Clause
#include "api/bind_cuda.h"

#include <string>

#include "cuda/host/device_query.h"

namespace py = pybind11;

namespace longattn {
namespace {

py::object version_or_none(int version) {
  if (version == 0) return py::none();
  return py::str(std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10));
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

}  // namespace

void bind_cuda(py::module_& module) {
  module.def("cuda_built", [] { return true; });
  module.def("cuda_architectures", &cuda::compiled_architectures);
  module.def("cuda_versions", &cuda_versions);
  module.def("cuda_devices", &cuda_devices);
  module.def("cuda_reason", [] { return text_or_none(query_without_gil().reason); });
}

}  // namespace longattn
