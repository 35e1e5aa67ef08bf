// SPDX-License-Identifier: BSD-3-Clause
// The shared memory of the running block: a window whose addresses are 32-bit offsets, filled with
// NaN before every block. Wrappers check bounds and alignment; a canary around the allocation
// finds plain C++ stores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "machine/where.h"

namespace simt {

// The first usable address, as on sm_80 and newer: the system keeps the first KB.
inline constexpr uint32_t kSharedBase = 1024;
inline constexpr uint32_t kSharedWindow = 256 * 1024;

// Whether the running block has launched with these bytes.
bool is_allocated(uint32_t address, uint32_t bytes);

// What a kernel asks for: the allocation's begin, and the address of a place in it.
void* shared_memory(size_t bytes, Where where);
uint32_t shared_address(const void* pointer, Where where);

// Where the `bytes` bytes at a shared address lie; fails unless they are allocated and aligned.
void* shared_at(const char* what, uint32_t address, uint32_t bytes, Where where);

extern char window[kSharedWindow];

inline uint32_t window_offset(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const char*>(pointer) - window);
}

inline bool is_shared(const void* pointer) {
  const char* place = static_cast<const char*>(pointer);
  return place >= window && place < window + kSharedWindow;
}

// For the machine: before and after a block. The check gives a sentence, or "" if all is well.
void open_shared_memory(uint32_t bytes);
std::string close_shared_memory();

// ld.shared and st.shared of `bytes` bytes. Not inlined: they are no plain accesses of the kernel.
void read_shared(uint32_t address, void* value, uint32_t bytes, Where where);
void write_shared(uint32_t address, const void* value, uint32_t bytes, Where where);

template <class Value>
Value load_shared(uint32_t address, Where where) {
  Value value;
  read_shared(address, &value, sizeof(Value), where);
  return value;
}

template <class Value>
void store_shared(uint32_t address, const Value& value, Where where) {
  write_shared(address, &value, sizeof(Value), where);
}

}  // namespace simt
