// SPDX-License-Identifier: BSD-3-Clause
#include "machine/global_memory.h"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "machine/block.h"
#include "machine/report.h"
#include "machine/shared_memory.h"

namespace simt {
namespace {

struct Range {
  uintptr_t begin;
  uintptr_t end;
  bool writable;
};

std::vector<Range> ranges;

// Which block has written a word of 4 bytes in this launch.
std::unordered_map<uintptr_t, unsigned> writers;
constexpr uintptr_t kWordBytes = 4;

// Blocks run in any order, and at the same time: none may touch what another one writes.
void check_other_blocks(const std::string& named, uintptr_t begin, size_t bytes, bool writes) {
  const unsigned self = block().index;
  for (uintptr_t word = begin / kWordBytes; word * kWordBytes < begin + bytes; ++word) {
    const auto found = writes ? writers.try_emplace(word, self).first : writers.find(word);
    if (found == writers.end() || found->second == self) continue;
    fail(named + (writes ? " writes" : " reads") + " what block " + std::to_string(found->second) +
         " has written in the same launch.");
  }
}

void add(const void* pointer, size_t bytes, bool writable) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(pointer);
  ranges.push_back({begin, begin + bytes, writable});
}

// How far the access lies from the nearest range says whose index went wrong.
std::string nearest_range(uintptr_t begin) {
  const Range* nearest = nullptr;
  uintptr_t least = UINTPTR_MAX;
  for (const Range& range : ranges) {
    const uintptr_t away = begin < range.begin ? range.begin - begin : begin - range.begin;
    if (away > least) continue;
    least = away;
    nearest = &range;
  }
  const std::string side = begin < nearest->begin ? " before" : " after";
  return "it lies " + std::to_string(least) + " bytes" + side +
         " the begin of the nearest allowed range, which has " +
         std::to_string(nearest->end - nearest->begin) + " bytes" +
         (nearest->writable ? "." : " and is read only.");
}

void check(const char* what, const void* pointer, size_t bytes, bool writes, Where where) {
  const std::string named = std::string(what) + " at " + text(where);
  const uintptr_t begin = reinterpret_cast<uintptr_t>(pointer);
  if (begin % bytes != 0) {
    fail(named + ": the global address is not a multiple of " + std::to_string(bytes) + ".");
  }
  if (is_shared(pointer)) {
    fail(named + ": the address lies in shared memory, but the instruction is for global memory.");
  }
  check_other_blocks(named, begin, bytes, writes);
  if (ranges.empty()) return;
  for (const Range& range : ranges) {
    const bool inside = begin >= range.begin && begin + bytes <= range.end;
    if (inside && (range.writable || !writes)) return;
  }
  fail(named + (writes ? " writes " : " reads ") + std::to_string(bytes) +
       " bytes of global memory that it may not: " + nearest_range(begin));
}

}  // namespace

void allow(const void* pointer, size_t bytes) { add(pointer, bytes, true); }

void allow_reading(const void* pointer, size_t bytes) { add(pointer, bytes, false); }

void forget_allowed() { ranges.clear(); }

void forget_writers() { writers.clear(); }

void check_global_read(const char* what, const void* pointer, size_t bytes, Where where) {
  check(what, pointer, bytes, false, where);
}

void check_global_write(const char* what, const void* pointer, size_t bytes, Where where) {
  check(what, pointer, bytes, true, where);
}

}  // namespace simt
