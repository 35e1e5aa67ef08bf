// SPDX-License-Identifier: BSD-3-Clause
// The shared memory of the running block: a window whose addresses are 32-bit offsets, filled with
// NaN before every block. Wrappers check bounds and alignment; a canary around the allocation
// finds plain C++ stores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "machine/schedule.h"
#include "machine/where.h"

namespace simt {

// The first usable address, as on sm_80 and newer: the system keeps the first KB.
inline constexpr uint32_t kSharedBase = 1024;
inline constexpr uint32_t kSharedWindow = 256 * 1024;

// What a kernel asks for: the allocation's begin, and the address of a place in it.
void* shared_memory(size_t bytes, Where where);
uint32_t shared_address(const void* pointer, Where where);

// Where the `bytes` bytes at a shared address lie; fails unless they are allocated and aligned.
void* shared_at(const char* what, uint32_t address, uint32_t bytes, Where where);

bool is_shared(const void* pointer);

// For the machine: before and after a block. The check gives a sentence, or "" if all is well.
void open_shared_memory(uint32_t bytes);
std::string close_shared_memory();

template <class Value>
Value load_shared(uint32_t address, Where where) {
  maybe_give_way();
  Value value;
  std::memcpy(&value, shared_at("ld.shared", address, sizeof(Value), where), sizeof(Value));
  return value;
}

template <class Value>
void store_shared(uint32_t address, const Value& value, Where where) {
  maybe_give_way();
  std::memcpy(shared_at("st.shared", address, sizeof(Value), where), &value, sizeof(Value));
}

}  // namespace simt
