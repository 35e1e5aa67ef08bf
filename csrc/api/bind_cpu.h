// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <pybind11/pybind11.h>

namespace longattn {

// Adds the CPU engine's operations to the module.
void bind_cpu(pybind11::module_& module);

}  // namespace longattn
