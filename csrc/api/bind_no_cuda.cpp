// SPDX-License-Identifier: BSD-3-Clause
// Built in place of bind_cuda.cpp where the CUDA sources are left out.
#include "api/bind_cuda.h"

namespace py = pybind11;

namespace longattn {

void bind_cuda(py::module_& module) {
  module.def("cuda_built", [] { return false; });
  module.def("cuda_architectures", [] { return ""; });
  module.def("cuda_versions", [] { return py::make_tuple(py::none(), py::none()); });
  module.def("cuda_devices", [] { return py::list(); });
  // CMake knows the reason and passes it on as a sentence.
  module.def("cuda_reason", [] { return LONGATTN_NO_CUDA_REASON; });
}

}  // namespace longattn
