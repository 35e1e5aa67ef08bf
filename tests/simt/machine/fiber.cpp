// SPDX-License-Identifier: BSD-3-Clause
#include "machine/fiber.h"

#include <sys/mman.h>

#include <new>

#include "machine/address_sanitizer.h"

namespace simt {
namespace {

// Pages count only once they are touched; a sanitizer surrounds every variable with red zones.
constexpr size_t kStackBytes = (kAddressSanitizer ? 1024 : 256) * 1024;
constexpr size_t kGuardBytes = 64 * 1024;  // a multiple of every page size

Fiber* left_last = nullptr;

}  // namespace

Fiber::~Fiber() {
  if (mapping_ != nullptr) munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::begin_at(void (*entry)()) {
  if (mapping_ == nullptr) {
    void* mapping = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    mapping_ = static_cast<char*>(mapping);
    mprotect(mapping_, kGuardBytes, PROT_NONE);  // a stack that grows too far stops the program
    stack_ = mapping_ + kGuardBytes;
    stack_bytes_ = kStackBytes;
  }
  permit_bytes(stack_, stack_bytes_);
  sanitizer_state_ = nullptr;
  context_ = new_context(mapping_ + kGuardBytes, kStackBytes, entry);
}

void Fiber::entered() {
  // The launching flow learns the place of its stack in this way.
  arrived_on_stack(nullptr, &left_last->stack_, &left_last->stack_bytes_);
}

void Fiber::leave_for(Fiber& next, void** sanitizer_state) {
  left_last = this;
  leaving_stack(sanitizer_state, next.stack_, next.stack_bytes_);
  switch_context(&context_, next.context_);
}

void Fiber::switch_to(Fiber& next) {
  leave_for(next, &sanitizer_state_);
  arrived_on_stack(sanitizer_state_, &left_last->stack_, &left_last->stack_bytes_);
}

void Fiber::end_in(Fiber& next) {
  leave_for(next, nullptr);
  __builtin_unreachable();
}

}  // namespace simt
