// SPDX-License-Identifier: BSD-3-Clause
#include "machine/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "machine/address_sanitizer.h"
#include "machine/block.h"
#include "machine/races.h"
#include "machine/report.h"
#include "machine/schedule.h"

namespace simt {
namespace {

constexpr unsigned char kPoison = 0xff;  // NaN as float, bfloat16 and half
constexpr uint32_t kCanary = 4096;       // bytes behind the allocation that must stay untouched

uint32_t allocation_end() { return kSharedBase + block().shared_bytes; }

uint32_t canary_end() { return std::min(allocation_end() + kCanary, kSharedWindow); }

// The first byte of [begin, end) that a plain store has changed; `end` if there is none.
uint32_t first_touched(uint32_t begin, uint32_t end) {
  const auto untouched = [](char byte) { return static_cast<unsigned char>(byte) == kPoison; };
  return static_cast<uint32_t>(std::find_if_not(window + begin, window + end, untouched) - window);
}

std::string relative(uint32_t address) {
  return std::to_string(static_cast<int64_t>(address) - kSharedBase);
}

}  // namespace

alignas(kSharedBase) char window[kSharedWindow];

bool is_allocated(uint32_t address, uint32_t bytes) {
  // The end is compared in 64 bits: an address near 2^32 must not wrap around.
  return address >= kSharedBase && uint64_t{address} + bytes <= allocation_end();
}

void* shared_memory(size_t bytes, Where where) {
  current_thread();
  if (bytes > block().shared_bytes) {
    fail("shared_memory at " + text(where) + ": the kernel's plan takes " + std::to_string(bytes) +
         " bytes of shared memory, but it was launched with " +
         std::to_string(block().shared_bytes) + ".");
  }
  return window + kSharedBase;
}

uint32_t shared_address(const void* pointer, Where where) {
  current_thread();
  if (!is_shared(pointer)) {
    fail("shared_address at " + text(where) + ": the pointer does not point to shared memory.");
  }
  return window_offset(pointer);
}

void* shared_at(const char* what, uint32_t address, uint32_t bytes, Where where) {
  if (!is_allocated(address, bytes)) {
    fail(std::string(what) + " at " + text(where) + " touches " + std::to_string(bytes) +
         " bytes at offset " + relative(address) + " of shared memory, of which " +
         std::to_string(block().shared_bytes) + " bytes were launched.");
  }
  if (address % bytes != 0) {
    fail(std::string(what) + " at " + text(where) + ": offset " + relative(address) +
         " of shared memory is not a multiple of " + std::to_string(bytes) + ".");
  }
  return window + address;
}

void read_shared(uint32_t address, void* value, uint32_t bytes, Where where) {
  maybe_give_way();
  const void* source = shared_at("ld.shared", address, bytes, where);
  shared_is_read(address, bytes, {where});
  std::memcpy(value, source, bytes);
}

void write_shared(uint32_t address, const void* value, uint32_t bytes, Where where) {
  maybe_give_way();
  void* target = shared_at("st.shared", address, bytes, where);
  shared_is_written(address, bytes, {where});
  std::memcpy(target, value, bytes);
}

void open_shared_memory(uint32_t bytes) {
  block().shared_bytes = bytes;
  forget_accesses();
  permit_bytes(window, kSharedWindow);
  std::memset(window, kPoison, canary_end());
  forbid_bytes(window, kSharedBase);
  forbid_bytes(window + allocation_end(), kSharedWindow - allocation_end());
}

std::string close_shared_memory() {
  permit_bytes(window, kSharedWindow);
  uint32_t touched = first_touched(0, kSharedBase);
  if (touched == kSharedBase) {
    touched = first_touched(allocation_end(), canary_end());
    if (touched == canary_end()) return "";
  }
  return "a plain store has changed offset " + relative(touched) + " of shared memory, of which " +
         std::to_string(block().shared_bytes) + " bytes were launched.";
}

}  // namespace simt
