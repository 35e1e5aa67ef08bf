// SPDX-License-Identifier: BSD-3-Clause
// What AddressSanitizer is told: which stack we run on, and which bytes are nobody's. Nothing
// happens in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;

inline void leaving_stack(void** saved, const void* next_stack, size_t next_bytes) {
  __sanitizer_start_switch_fiber(saved, next_stack, next_bytes);
}

inline void arrived_on_stack(void* saved, const void** last_stack, size_t* last_bytes) {
  __sanitizer_finish_switch_fiber(saved, last_stack, last_bytes);
}

inline void forbid_bytes(const void* begin, size_t bytes) {
  __asan_poison_memory_region(begin, bytes);
}

inline void permit_bytes(const void* begin, size_t bytes) {
  __asan_unpoison_memory_region(begin, bytes);
}
#else
inline constexpr bool kAddressSanitizer = false;

inline void leaving_stack(void**, const void*, size_t) {}

inline void arrived_on_stack(void*, const void**, size_t*) {}

inline void forbid_bytes(const void*, size_t) {}

inline void permit_bytes(const void*, size_t) {}
#endif

}  // namespace simt
