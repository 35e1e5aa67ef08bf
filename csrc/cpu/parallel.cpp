// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
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

  // All memory is taken before the first thread starts: nothing may throw past a running one.
  void* const own = own_scratch();
  const int64_t further = std::clamp<int64_t>(threads - 1, 0, std::max<int64_t>(items - 1, 0));
  std::vector<ScratchMemory> scratch(further);
  for (ScratchMemory& memory : scratch) memory = allocate_scratch();
  std::vector<std::thread> workers;
  workers.reserve(further);
  for (const ScratchMemory& memory : scratch) {
    try {
      workers.emplace_back(work, memory.get());
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run do all the work
    }
  }
  work(own);
  for (std::thread& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace longattn
