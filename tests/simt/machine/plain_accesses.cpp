// SPDX-License-Identifier: BSD-3-Clause
// Plain loads and stores of kernels. Their sources are compiled as for ThreadSanitizer, which calls
// these functions before every access; its own library, which knows no CUDA, is not linked.
#include <cstddef>
#include <cstdint>

#include <cstring>

#include "machine/block.h"
#include "machine/races.h"
#include "machine/shared_memory.h"

namespace {

using namespace simt;

inline void touched(const void* pointer, size_t bytes, bool writes, const void* code) {
  if (!is_shared(pointer)) [[likely]]
    return;
  if (block().running == nullptr) return;
  const uint32_t address = window_offset(pointer);
  const auto size = static_cast<uint32_t>(bytes);
  if (!is_allocated(address, size)) return;  // that is for the canary to tell
  if (writes) {
    shared_is_written(address, size, {{}, code});
  } else {
    shared_is_read(address, size, {{}, code});
  }
}

}  // namespace

#define SIMT_HOOKS(suffix, bytes)                                                      \
  void __tsan_read##suffix(void* pointer) {                                            \
    touched(pointer, bytes, false, __builtin_return_address(0));                       \
  }                                                                                    \
  void __tsan_write##suffix(void* pointer) {                                           \
    touched(pointer, bytes, true, __builtin_return_address(0));                        \
  }                                                                                    \
  void __tsan_unaligned_read##suffix(void* pointer) {                                  \
    touched(pointer, bytes, false, __builtin_return_address(0));                       \
  }                                                                                    \
  void __tsan_unaligned_write##suffix(void* pointer) {                                 \
    touched(pointer, bytes, true, __builtin_return_address(0));                        \
  }

extern "C" {

SIMT_HOOKS(1, 1)
SIMT_HOOKS(2, 2)
SIMT_HOOKS(4, 4)
SIMT_HOOKS(8, 8)
SIMT_HOOKS(16, 16)

void __tsan_read_range(void* pointer, size_t bytes) {
  touched(pointer, bytes, false, __builtin_return_address(0));
}

void __tsan_write_range(void* pointer, size_t bytes) {
  touched(pointer, bytes, true, __builtin_return_address(0));
}

void __tsan_init() {}

void __tsan_func_entry(void*) {}

void __tsan_func_exit() {}

void __tsan_vptr_update(void*, void*) {}

void __tsan_vptr_read(void*) {}

// clang's, in the place of the functions without the prefix.
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  touched(from, bytes, false, __builtin_return_address(0));
  touched(to, bytes, true, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}

void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  touched(from, bytes, false, __builtin_return_address(0));
  touched(to, bytes, true, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}

void* __tsan_memset(void* to, int byte, size_t bytes) {
  touched(to, bytes, true, __builtin_return_address(0));
  return std::memset(to, byte, bytes);
}

// Whether a static variable of a function has been made.
char __tsan_atomic8_load(const volatile char* pointer, int) {
  return __atomic_load_n(pointer, __ATOMIC_ACQUIRE);
}

}  // extern "C"
