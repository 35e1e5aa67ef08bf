// SPDX-License-Identifier: BSD-3-Clause
#include "machine/races.h"

#include <algorithm>
#include <bit>
#include <string>
#include <unordered_map>
#include <vector>

#include "machine/block.h"
#include "machine/code_line.h"
#include "machine/report.h"
#include "machine/settings.h"
#include "machine/shared_memory.h"

namespace simt {
namespace {

constexpr uintptr_t kChunk = 16;  // bytes: what most instructions touch at a time
constexpr uint32_t kOnItsWay = ~0u;

// What some lanes of a warp have done to the same bytes of a chunk at one point of their progress.
struct Access {
  uint16_t bytes;  // a bit each
  uint8_t warp;
  bool writes;
  uint32_t lanes;
  uint32_t progress;  // kOnItsWay: an asynchronous copy that has not been waited for
  Origin origin;
};

struct Chunk {
  uint64_t block = 0;  // whose accesses these are
  std::vector<Access> accesses;
};

enum class Memory { kShared, kGlobal };

std::vector<Chunk> shared_chunks(kSharedWindow / kChunk);
std::unordered_map<uintptr_t, Chunk> global_chunks;
uint64_t blocks_so_far = 0;

Chunk& chunk_of(Memory memory, uintptr_t address) {
  const uintptr_t index = address / kChunk;
  Chunk& chunk = memory == Memory::kShared ? shared_chunks[index] : global_chunks[index];
  if (chunk.block != blocks_so_far) {
    chunk.block = blocks_so_far;
    chunk.accesses.clear();
  }
  return chunk;
}

std::string place_of(Memory memory, uintptr_t address) {
  if (memory == Memory::kGlobal) return "global memory";
  return "shared memory, offset " + std::to_string(address - kSharedBase);
}

bool is_seen(const Access& earlier, const Access& later) {
  if (earlier.progress == kOnItsWay) return false;
  if (earlier.warp == later.warp && earlier.lanes == later.lanes &&
      std::has_single_bit(later.lanes)) {
    return true;
  }
  return earlier.progress <= block().warps[later.warp].seen[earlier.warp];
}

std::string described(const Access& access, bool is_earlier) {
  const bool copies = access.progress == kOnItsWay;
  const std::string has = is_earlier && !copies ? "has " : "";
  const std::string verb = copies            ? "is copying to"
                           : !access.writes ? (is_earlier ? "read" : "reads")
                                            : (is_earlier ? "written" : "writes");
  return "thread " + std::to_string(access.warp * kLanes + std::countr_zero(access.lanes)) + " " +
         has + verb + " at " +
         (access.origin.code ? code_line(access.origin.code) : text(access.origin.where));
}

// The first one of a block is kept: the kernel goes on, since plain accesses may not throw.
void report(const Access& earlier, const Access& later, Memory memory, uintptr_t chunk) {
  Block& b = block();
  if (!b.race.empty()) return;
  const int byte = std::countr_zero(static_cast<unsigned>(earlier.bytes & later.bytes));
  b.race = "simt: kernel " + b.kernel + ", block " + std::to_string(b.index) + ": race on " +
           place_of(memory, chunk + byte) + ": " + described(later, false) + ", what " +
           described(earlier, true) +
           (earlier.progress == kOnItsWay ? ", and the copy has not been waited for."
                                          : ", and no barrier lies between.");
}

void add(const Access& access, Memory memory, uintptr_t address) {
  Chunk& chunk = chunk_of(memory, address);
  size_t kept = 0;
  bool is_known = false;
  for (const Access& earlier : chunk.accesses) {
    const bool meets = (earlier.bytes & access.bytes) != 0;
    const bool seen = meets && is_seen(earlier, access);
    if (meets && !seen && (earlier.writes || access.writes)) {
      report(earlier, access, memory, address);
    }
    // Who has seen the later one has seen the earlier one too.
    const bool covered = (earlier.bytes & ~access.bytes) == 0;
    if (covered && seen && (access.writes || !earlier.writes)) continue;
    chunk.accesses[kept] = earlier;
    Access& same = chunk.accesses[kept++];
    if (same.warp == access.warp && same.writes == access.writes && same.bytes == access.bytes &&
        same.progress == access.progress && !access.writes) {
      same.lanes |= access.lanes;
      is_known = true;
    }
  }
  chunk.accesses.resize(kept);
  if (!is_known) chunk.accesses.push_back(access);
}

void add(bool writes, bool on_its_way, int thread, Memory memory, uintptr_t address,
         uint32_t bytes, Origin origin) {
  if (!settings().races) return;
  Access access;
  access.warp = static_cast<uint8_t>(thread / kLanes);
  access.writes = writes;
  access.lanes = 1u << thread % kLanes;
  access.progress = on_its_way ? kOnItsWay : block().threads[thread].progress;
  access.origin = origin;
  for (const uintptr_t end = address + bytes; address < end;) {
    const uintptr_t first = address % kChunk, count = std::min(end - address, kChunk - first);
    access.bytes = static_cast<uint16_t>(((1u << count) - 1) << first);
    add(access, memory, address - first);
    address += count;
  }
}

void raise(Progress& progress, const Progress& to) {
  for (int warp = 0; warp < kMostWarps; ++warp) {
    progress[warp] = std::max(progress[warp], to[warp]);
  }
}

}  // namespace

void shared_is_read(uint32_t address, uint32_t bytes, Origin origin) {
  add(false, false, current_thread().index, Memory::kShared, address, bytes, origin);
}

void shared_is_written(uint32_t address, uint32_t bytes, Origin origin) {
  add(true, false, current_thread().index, Memory::kShared, address, bytes, origin);
}

void global_is_read(const void* pointer, uint32_t bytes, Origin origin) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  add(false, false, current_thread().index, Memory::kGlobal, address, bytes, origin);
}

void global_is_written(const void* pointer, uint32_t bytes, Origin origin) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  add(true, false, current_thread().index, Memory::kGlobal, address, bytes, origin);
}

void shared_is_read_by(int lane, uint32_t address, uint32_t bytes, Origin origin) {
  const int thread = current_thread().warp() * kLanes + lane;
  add(false, false, thread, Memory::kShared, address, bytes, origin);
}

void copy_begins(uint32_t address, Origin origin) {
  add(true, true, current_thread().index, Memory::kShared, address, kChunk, origin);
}

void copy_ends(uint32_t address) {
  const Thread& self = current_thread();
  for (Access& access : chunk_of(Memory::kShared, address).accesses) {
    const bool is_own = access.warp == self.warp() && access.lanes == self.lane_bit();
    if (is_own && access.progress == kOnItsWay) access.progress = self.progress;
  }
}

void tell_progress(Progress& barrier) {
  Thread& self = current_thread();
  raise(barrier, block().warps[self.warp()].seen);
  barrier[self.warp()] = std::max(barrier[self.warp()], self.progress++);
}

void learn_progress(int warp, const Progress& barrier) { raise(block().warps[warp].seen, barrier); }

void lanes_have_met(int warp) {
  Block& b = block();
  uint32_t& seen = b.warps[warp].seen[warp];
  for (int lane = 0; lane < kLanes; ++lane) {
    seen = std::max(seen, b.threads[warp * kLanes + lane].progress++);
  }
}

void forget_accesses() {
  ++blocks_so_far;
  global_chunks.clear();
  block().race.clear();
}

}  // namespace simt
