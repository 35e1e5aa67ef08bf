// SPDX-License-Identifier: BSD-3-Clause
// The Python module longattn._native. longattn/native.py is the way in.
#include "api/bind_cpu.h"
#include "api/bind_cuda.h"

PYBIND11_MODULE(_native, module) {
  module.doc() = "The native engines of longattn; longattn/native.py is the way in.";
  longattn::bind_cpu(module);
  longattn::bind_cuda(module);
}
