// SPDX-License-Identifier: BSD-3-Clause
// cp.async: copies land as late as the program allows (async = lazy), at once (eager), or either by
// chance (random). Source and destination are checked when the copy is issued.
#pragma once

#include <cstdint>
#include <vector>

#include "machine/where.h"

namespace simt {

struct AsyncCopy {
  uint32_t address;
  void* destination;
  const void* source;  // nullptr: zeros
  bool landed;
  Where where;
};

// The copies of one thread that it has not waited for.
struct CopyQueue {
  std::vector<AsyncCopy> copies;
  std::vector<size_t> group_ends;  // numbers of copies issued before each commit
};

void copy_async(uint32_t address, const void* global, bool valid, Where where);
void commit_copies();
void wait_for_copies(int pending_groups);

// Fails if the running thread, which is about to exit, has copies that it did not wait for: they
// could land in the shared memory of another block.
void check_no_copies_are_left();

}  // namespace simt
