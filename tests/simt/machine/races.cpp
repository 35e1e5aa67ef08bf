// SPDX-License-Identifier: BSD-3-Clause
#include "machine/races.h"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "machine/block.h"
#include "machine/code_line.h"
#include "machine/report.h"
#include "machine/settings.h"
#include "machine/shared_memory.h"

namespace simt {
namespace {

constexpr uint32_t kChunk = 16;  // bytes: what most instructions touch at a time
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

std::vector<Chunk> chunks(kSharedWindow / kChunk);
uint64_t blocks_so_far = 0;

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
void report(const Access& earlier, const Access& later, uint32_t chunk) {
  Block& b = block();
  if (!b.race.empty()) return;
  const int byte = std::countr_zero(static_cast<unsigned>(earlier.bytes & later.bytes));
  const uint32_t offset = chunk * kChunk + byte - kSharedBase;
  b.race = "simt: kernel " + b.kernel + ", block " + std::to_string(b.index) +
           ": race on shared memory, offset " + std::to_string(offset) + ": " +
           described(later, false) + ", what " + described(earlier, true) +
           (earlier.progress == kOnItsWay ? ", and the copy has not been waited for."
                                          : ", and no barrier lies between.");
}

void add(const Access& access, uint32_t index) {
  Chunk& chunk = chunks[index];
  if (chunk.block != blocks_so_far) {
    chunk.block = blocks_so_far;
    chunk.accesses.clear();
  }
  size_t kept = 0;
  bool is_known = false;
  for (const Access& earlier : chunk.accesses) {
    const bool meets = (earlier.bytes & access.bytes) != 0;
    const bool seen = meets && is_seen(earlier, access);
    if (meets && !seen && (earlier.writes || access.writes)) report(earlier, access, index);
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

void add(bool writes, bool on_its_way, int thread, uint32_t address, uint32_t bytes,
         Origin origin) {
  if (!settings().races) return;
  Access access;
  access.warp = static_cast<uint8_t>(thread / kLanes);
  access.writes = writes;
  access.lanes = 1u << thread % kLanes;
  access.progress = on_its_way ? kOnItsWay : block().threads[thread].progress;
  access.origin = origin;
  for (uint32_t end = address + bytes; address < end;) {
    const uint32_t index = address / kChunk, first = address % kChunk;
    const uint32_t count = std::min(end - address, kChunk - first);
    access.bytes = static_cast<uint16_t>(((1u << count) - 1) << first);
    add(access, index);
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
  add(false, false, current_thread().index, address, bytes, origin);
}

void shared_is_written(uint32_t address, uint32_t bytes, Origin origin) {
  add(true, false, current_thread().index, address, bytes, origin);
}

void shared_is_read_by(int lane, uint32_t address, uint32_t bytes, Origin origin) {
  add(false, false, current_thread().warp() * kLanes + lane, address, bytes, origin);
}

void copy_begins(uint32_t address, Origin origin) {
  add(true, true, current_thread().index, address, kChunk, origin);
}

void copy_ends(uint32_t address) {
  const Thread& self = current_thread();
  for (Access& access : chunks[address / kChunk].accesses) {
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
  block().race.clear();
}

}  // namespace simt
