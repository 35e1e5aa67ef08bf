// SPDX-License-Identifier: BSD-3-Clause
#include "machine/launch.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "machine/block.h"
#include "machine/counts.h"
#include "machine/cuda_types.h"
#include "machine/global_memory.h"
#include "machine/schedule.h"
#include "machine/settings.h"
#include "machine/shared_memory.h"

namespace simt {
namespace {

void check_size(const std::string& kernel, unsigned blocks, unsigned threads, size_t shared_bytes) {
  const auto refuse = [&](const std::string& reason) {
    throw std::runtime_error("simt: kernel " + kernel + " cannot be launched: " + reason);
  };
  if (block().running != nullptr) refuse("a kernel is running; kernels launch none.");
  if (blocks == 0 || blocks > 0x7fffffffu) {
    refuse("the grid has " + std::to_string(blocks) + " blocks; it takes 1..2147483647.");
  }
  if (threads == 0 || threads % kLanes != 0 || threads > kMaxThreads) {
    refuse("a block has " + std::to_string(threads) +
           " threads; it takes a multiple of 32, at most 1024.");
  }
  const size_t limit = std::min(settings().shared_limit_bytes, kMaxSharedBytes);
  if (shared_bytes > limit) {
    refuse("a block asks for " + std::to_string(shared_bytes) +
           " bytes of shared memory; there are " + std::to_string(limit) + ".");
  }
}

void run_block(unsigned index, uint32_t shared_bytes) {
  Block& b = block();
  b.index = index;
  b.exited = 0;
  b.error.clear();
  b.warps = {};
  b.barriers = {};
  b.runnable.clear();
  // Blocks differ, and so do neighbouring seeds.
  b.random_state = settings().seed * 0xd1342543de82ef95u + index * uint64_t{0x2545f4914f6cdd1du};
  b.tenure = 0;
  blockIdx = {index, 0, 0};
  open_shared_memory(shared_bytes);
  run_threads();
  if (!b.race.empty()) b.error = b.race + (b.error.empty() ? "" : "\nBehind it: " + b.error);
  const std::string touched = close_shared_memory();
  if (b.error.empty() && !touched.empty()) {
    b.error = "simt: kernel " + b.kernel + ", block " + std::to_string(index) + ": " + touched;
  }
  ++counts().blocks;
  if (!b.error.empty()) throw std::runtime_error(b.error);
}

// Hardware promises none: blocks follow the order of threads.
std::vector<unsigned> order_of_blocks(unsigned blocks) {
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (settings().order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (settings().order == Order::kRandom) {
    std::shuffle(order.begin(), order.end(), std::mt19937_64(settings().seed));
  }
  return order;
}

}  // namespace

void run_grid(const char* name, unsigned blocks, unsigned threads, size_t shared_bytes,
              const std::function<void()>& thread) {
  static std::recursive_mutex one_at_a_time;  // recursive: a launch in a kernel gets its sentence
  const std::lock_guard<std::recursive_mutex> lock(one_at_a_time);
  check_size(name, blocks, threads, shared_bytes);
  Block& b = block();
  b.kernel = name;
  b.thread_count = static_cast<int>(threads);
  b.body = &thread;
  while (b.threads.size() < threads) b.threads.emplace_back();
  blockDim = {threads, 1, 1};
  gridDim = {blocks, 1, 1};
  const uint64_t products = counts().matrix_products;
  forget_writers();
  for (unsigned index : order_of_blocks(blocks)) {
    run_block(index, static_cast<uint32_t>(shared_bytes));
  }
  products_of_kernels()[name] += counts().matrix_products - products;
}

}  // namespace simt
