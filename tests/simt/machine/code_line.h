// SPDX-License-Identifier: BSD-3-Clause
// The line of the source that made a piece of machine code, as far as the binary tells.
#pragma once

#include <string>

namespace simt {

// "a plain access (kernel.cuh:12)"; `code` is the address that a call from there returns to.
std::string code_line(const void* code);

}  // namespace simt
