// SPDX-License-Identifier: BSD-3-Clause
// Accesses to global memory through the wrappers. Once ranges are allowed, any other address is
// reported, and always blocks that touch the same memory; plain C++ accesses are seen by sanitizers
// only.
#pragma once

#include <cstddef>
#include <cstring>

#include "machine/races.h"
#include "machine/schedule.h"
#include "machine/where.h"

namespace simt {

// Allows wrappers to read and write `bytes` bytes. Without any allowed range all of memory is.
void allow(const void* pointer, size_t bytes);

// As above, but a write there is an error.
void allow_reading(const void* pointer, size_t bytes);

void forget_allowed();

// Called before a launch. Within one, a block may not touch what another block has written.
void forget_writers();

// Fails unless the bytes may be read (written) and the address is a multiple of their number.
void check_global_read(const char* what, const void* pointer, size_t bytes, Where where);
void check_global_write(const char* what, const void* pointer, size_t bytes, Where where);

template <class Value>
Value load_global(const void* pointer, Where where) {
  maybe_give_way();
  check_global_read("ld.global", pointer, sizeof(Value), where);
  global_is_read(pointer, sizeof(Value), {where});
  Value value;
  std::memcpy(&value, pointer, sizeof(Value));
  return value;
}

template <class Value>
void store_global(void* pointer, const Value& value, Where where) {
  maybe_give_way();
  check_global_write("st.global", pointer, sizeof(Value), where);
  global_is_written(pointer, sizeof(Value), {where});
  std::memcpy(pointer, &value, sizeof(Value));
}

}  // namespace simt
