// SPDX-License-Identifier: BSD-3-Clause
#include "machine/async_copy.h"

#include <cstring>
#include <string>

#include "machine/block.h"
#include "machine/counts.h"
#include "machine/global_memory.h"
#include "machine/races.h"
#include "machine/report.h"
#include "machine/schedule.h"
#include "machine/settings.h"
#include "machine/shared_memory.h"

namespace simt {
namespace {

constexpr uint32_t kBytes = 16;

void land(AsyncCopy& copy) {
  if (copy.landed) return;
  copy.landed = true;
  if (copy.source == nullptr) {
    std::memset(copy.destination, 0, kBytes);
  } else {
    std::memcpy(copy.destination, copy.source, kBytes);
  }
}

bool lands_at_once() {
  const Async async = settings().async;
  return async == Async::kEager || (async == Async::kRandom && random_number() % 2 == 0);
}

}  // namespace

void copy_async(uint32_t address, const void* global, bool valid, Where where) {
  maybe_give_way();
  Thread& self = current_thread();
  void* destination = shared_at("cp.async", address, kBytes, where);
  if (valid) {
    check_global_read("cp.async", global, kBytes, where);
  } else if (reinterpret_cast<uintptr_t>(global) % kBytes != 0) {
    fail("cp.async at " + text(where) +
         ": the global address is not a multiple of 16; that holds for copies of zeros too.");
  }
  ++counts().async_copies;
  copy_begins(address, {where});
  self.copies.copies.push_back({address, destination, valid ? global : nullptr, false, where});
  if (lands_at_once()) land(self.copies.copies.back());
}

void commit_copies() {
  CopyQueue& queue = current_thread().copies;
  queue.group_ends.push_back(queue.copies.size());
}

void wait_for_copies(int pending_groups) {
  CopyQueue& queue = current_thread().copies;
  const auto groups = static_cast<std::ptrdiff_t>(queue.group_ends.size()) - pending_groups;
  if (groups <= 0) return;
  const size_t landed = queue.group_ends[groups - 1];
  for (size_t copy = 0; copy < landed; ++copy) {
    land(queue.copies[copy]);
    copy_ends(queue.copies[copy].address);
  }
  queue.copies.erase(queue.copies.begin(), queue.copies.begin() + landed);
  queue.group_ends.erase(queue.group_ends.begin(), queue.group_ends.begin() + groups);
  for (size_t& end : queue.group_ends) end -= landed;
}

void check_no_copies_are_left() {
  const std::vector<AsyncCopy>& copies = current_thread().copies.copies;
  if (copies.empty()) return;
  fail("the thread exits without having waited for " + std::to_string(copies.size()) +
       " of its asynchronous copies, the last of them begun by cp.async at " +
       text(copies.back().where) + ".");
}

}  // namespace simt
