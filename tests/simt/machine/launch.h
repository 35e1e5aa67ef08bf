// SPDX-License-Identifier: BSD-3-Clause
// Runs a grid: block after block, each CUDA thread on a fiber of its own.
#pragma once

#include <cstddef>
#include <functional>

namespace simt {

// Calls `thread` once for every thread of every block. Throws std::runtime_error with the kernel's
// name for what a device would refuse, do wrong, or hang at.
void run_grid(const char* name, unsigned blocks, unsigned threads, size_t shared_bytes,
              const std::function<void()>& thread);

}  // namespace simt
