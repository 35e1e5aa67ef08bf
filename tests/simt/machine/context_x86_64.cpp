// SPDX-License-Identifier: BSD-3-Clause
#include <cstdint>

#include "machine/context.h"

namespace simt {

// A context is a stack pointer; what a call must preserve lies above it, then the return address.
__attribute__((naked, noinline)) void switch_context(Context*, Context) {
  asm volatile(
      "pushq %rbp\n"
      "pushq %rbx\n"
      "pushq %r12\n"
      "pushq %r13\n"
      "pushq %r14\n"
      "pushq %r15\n"
      "movq %rsp, (%rdi)\n"
      "movq %rsi, %rsp\n"
      "popq %r15\n"
      "popq %r14\n"
      "popq %r13\n"
      "popq %r12\n"
      "popq %rbx\n"
      "popq %rbp\n"
      "ret\n");
}

Context new_context(char* stack, size_t bytes, void (*entry)()) {
  // After the switch returns into `entry`, the stack pointer must be 8 past a multiple of 16, as
  // after a call; the zero it then points at, as a return address, is where backtraces end.
  constexpr int kSavedRegisters = 6;
  uint64_t* top = reinterpret_cast<uint64_t*>(stack + bytes) - 3;
  top[0] = 0;
  top[1] = 0;
  *--top = reinterpret_cast<uint64_t>(entry);
  for (int saved = 0; saved < kSavedRegisters; ++saved) *--top = 0;
  return top;
}

}  // namespace simt
