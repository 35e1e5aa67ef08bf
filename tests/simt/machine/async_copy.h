// SPDX-License-Identifier: BSD-3-Clause
// cp.async: copies land as late as the program allows (async = lazy), at once (eager), or either by
// chance (random). Source and destination are checked when the copy is issued.
#pragma once

#include <cstdint>
#include <vector>

#include "machine/where.h"

namespace simt {

struct AsyncCopy {
  void* destination;
  const void* source;  // nullptr: zeros
};

// The copies of one thread that have not landed.
struct CopyQueue {
  std::vector<AsyncCopy> copies;
  std::vector<size_t> group_ends;  // numbers of copies issued before each commit
};

void copy_async(uint32_t address, const void* global, bool valid, Where where);
void commit_copies();
void wait_for_copies(int pending_groups);

}  // namespace simt
