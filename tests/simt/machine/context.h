// SPDX-License-Identifier: BSD-3-Clause
// A flow of execution that stands still, and the way from one to another. x86-64 has its own
// switch (about 15 ns); other processors use ucontext, which asks the system each time.
#pragma once

#include <cstddef>

namespace simt {

using Context = void*;

// A flow that will begin in `entry`, which must never return, on the given stack.
Context new_context(char* stack, size_t bytes, void (*entry)());

// Stores the running flow in `from` and goes on in `to`.
void switch_context(Context* from, Context to);

}  // namespace simt
