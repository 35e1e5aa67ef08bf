// SPDX-License-Identifier: BSD-3-Clause
#include "machine/context.h"

#include <ucontext.h>

namespace simt {

// The context of a flow lies at the low end of its stack; only the launching flow has no stack of
// ours, and only one launch runs at a time.
void switch_context(Context* from, Context to) {
  static ucontext_t launching_flow;
  if (*from == nullptr) *from = &launching_flow;
  swapcontext(static_cast<ucontext_t*>(*from), static_cast<ucontext_t*>(to));
}

Context new_context(char* stack, size_t bytes, void (*entry)()) {
  constexpr size_t kReserved = (sizeof(ucontext_t) + 63) / 64 * 64;
  ucontext_t* context = reinterpret_cast<ucontext_t*>(stack);
  getcontext(context);
  context->uc_stack.ss_sp = stack + kReserved;
  context->uc_stack.ss_size = bytes - kReserved;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

}  // namespace simt
