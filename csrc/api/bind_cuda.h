// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <pybind11/pybind11.h>

namespace longattn {

// Adds to the module:
//   cuda                            the engine, a submodule; absent without CUDA
//   cuda_built() -> bool            whether this build holds the CUDA sources
//   cuda_architectures() -> str     what its kernels are compiled for; "" without CUDA
//   cuda_versions() -> (driver, runtime)   such as ("13.0", "13.0"); None where there is none
//   cuda_devices() -> list of dict  every GPU, with the reason why it cannot be used, or None
//   cuda_reason() -> str | None     why no GPU can be used, or None
// bind_cuda.cpp and bind_no_cuda.cpp both define it; the build takes one of the two.
void bind_cuda(pybind11::module_& module);

}  // namespace longattn
