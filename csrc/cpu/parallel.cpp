// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "cpu/arena.h"

namespace longattn {

namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

using ScratchMemory = std::unique_ptr<void, Free>;

ScratchMemory allocate_scratch() {
  ScratchMemory memory(std::aligned_alloc(kCacheLine, kScratchBytes));
  if (!memory) throw std::bad_alloc();
  return memory;
}

// A calling thread keeps its scratch, so that small calls in a row find warm pages.
void* own_scratch() {
  thread_local ScratchMemory memory = allocate_scratch();
  return memory.get();
}

}  // namespace

void for_each_item(int64_t items, int threads,
                   const std::function<void(int64_t item, void* scratch)>& body) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&](void* scratch) noexcept {
    try {
      for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) {
        body(item, scratch);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_mutex);
      failure = std::current_exception();
      next.store(items, std::memory_order_relaxed);
    }
  };

  std::vector<ScratchMemory> scratch;
  std::vector<std::thread> helpers;
  const int64_t helper_count = std::clamp<int64_t>(threads - 1, 0, std::max<int64_t>(items - 1, 0));
  scratch.reserve(helper_count);
  helpers.reserve(helper_count);
  for (int64_t i = 0; i < helper_count; ++i) {
    scratch.push_back(allocate_scratch());
    try {
      helpers.emplace_back(work, scratch.back().get());
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run do all the work
    }
  }
  work(own_scratch());
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace longattn
