// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/launch/launch.h. The kernel has run when it returns.
#pragma once

#include <cstddef>

#include "machine/launch.h"

namespace longattn::cuda {

template <class Kernel, class... Arguments>
void launch(const char* name, Kernel* kernel, unsigned grid, unsigned threads, size_t shared_bytes,
            void* /*stream*/, const Arguments&... arguments) {
  simt::run_grid(name, grid, threads, shared_bytes, [&] { kernel(arguments...); });
}

}  // namespace longattn::cuda
