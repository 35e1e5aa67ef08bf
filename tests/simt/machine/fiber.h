// SPDX-License-Identifier: BSD-3-Clause
// A flow of execution with its stack. A fiber without a stack of its own stands for the flow that
// launches.
#pragma once

#include <cstddef>

#include "machine/context.h"

namespace simt {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Gives the fiber a fresh flow that begins in `entry`; whatever it was doing is forgotten.
  void begin_at(void (*entry)());

  // The first thing that `entry` does.
  static void entered();

  // Leaves this fiber, which must be the running one, for `next`.
  void switch_to(Fiber& next);

  // The same, never to come back.
  [[noreturn]] void end_in(Fiber& next);

 private:
  void leave_for(Fiber& next, void** sanitizer_state);

  Context context_ = nullptr;
  char* mapping_ = nullptr;
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* sanitizer_state_ = nullptr;
};

}  // namespace simt
