// SPDX-License-Identifier: BSD-3-Clause
// Shared and global memory: what wrappers read and write, and what they refuse.
#include <launch/launch.h>
#include <ptx/barrier.h>
#include <ptx/cp_async.h>
#include <ptx/memory.h>

#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "expect.h"
#include "machine/global_memory.h"

namespace {

using namespace longattn::ptx;
using namespace simt;

struct Plan {
  alignas(16) float row[8];
};

template <class Kernel, class... Arguments>
auto launching(Kernel* kernel, size_t shared_bytes, const Arguments&... arguments) {
  return
      [=] { longattn::cuda::launch("kernel", kernel, 1, 32, shared_bytes, nullptr, arguments...); };
}

struct Results {
  float before;
  float as_float;
  uint32_t as_bits;
  alignas(16) uint4 sixteen;
};

__global__ void store_and_load(const uint4* source, Results* results) {
  if (threadIdx.x > 0) return;
  const uint32_t smem = shared_address(&shared_memory<Plan>());
  results->before = load_shared_float(smem + 28);
  store_shared_float(smem, 1.5f);
  store_shared_4(smem + 4, 0x40200000u);
  results->as_float = load_shared_float(smem + 4);
  results->as_bits = load_shared_16(smem).x;
  store_shared_16(smem + 16, load_global_16(source));
  uint4 value = load_shared_16(smem + 16);
  value.w += 1;
  store_global_16(&results->sixteen, value);
}

void test_values(const std::string& setting) {
  alignas(16) const uint4 source = {1, 2, 3, 4};
  Results results{};
  launching(store_and_load, sizeof(Plan), &source, &results)();
  expect("shared memory begins as NaN" + setting, std::isnan(results.before));
  expect_equal("float", results.as_float, 2.5f);
  expect_equal("bits", results.as_bits, std::bit_cast<uint32_t>(1.5f));
  expect_equal("first of 16 bytes", results.sixteen.x, 1u);
  expect_equal("last of 16 bytes", results.sixteen.w, 5u);
}

__global__ void store_at(uint32_t offset) {
  store_shared_4(shared_address(&shared_memory<Plan>()) + offset, 7);
}

__global__ void load_at(uint32_t offset) {
  load_shared_16(shared_address(&shared_memory<Plan>()) + offset);
}

__global__ void plain_store_at(int offset) {
  volatile char* bytes = reinterpret_cast<char*>(&shared_memory<Plan>());
  bytes[offset] = 7;
}

__global__ void address_of(const void* pointer) { shared_address(pointer); }

void test_shared_errors() {
  expect("in bounds", error_of(launching(store_at, 32, 28u)).empty());
  expect_error("store past the end", {"st.shared at test_memory.cpp:", "4 bytes", "offset 32"},
               launching(store_at, 32, 32u));
  expect_error("load across the end", {"ld.shared at", "16 bytes", "offset 24"},
               launching(load_at, 32, 24u));
  expect_error("unaligned", {"offset 4 ", "multiple of 16"}, launching(load_at, 32, 4u));
  expect_error("before the begin", {"offset -4"}, launching(store_at, 32, -4u));
  expect_error("address wraps around", {"ld.shared at"}, launching(load_at, 32, 0u - 1024 - 16));
  int elsewhere = 0;
  expect_error("not shared", {"shared_address at", "does not point to shared memory"},
               launching(address_of, 32, &elsewhere));
  expect_error("plan too big", {"shared_memory at test_memory.cpp:", "takes 32 bytes", "with 16"},
               launching(store_at, 16, 0u));
}

// AddressSanitizer would stop the program at these stores, which is its job.
void test_canary() {
#if !defined(__SANITIZE_ADDRESS__)
  expect("plain store in bounds", error_of(launching(plain_store_at, 32, 31)).empty());
  expect_error("plain store behind", {"kernel kernel, block 0: a plain store", "offset 32 "},
               launching(plain_store_at, 32, 32));
  expect_error("plain store before", {"a plain store", "offset -1 "},
               launching(plain_store_at, 32, -1));
#endif
}

__global__ void nothing() {}

void test_launch_errors() {
  const auto run = [](unsigned blocks, unsigned threads, size_t bytes) {
    return [=] { longattn::cuda::launch("idle", nothing, blocks, threads, bytes, nullptr); };
  };
  expect("largest", error_of(run(2, 1024, 227 * 1024)).empty());
  expect_error("shared memory", {"kernel idle cannot be launched", "232449 bytes", "232448"},
               run(1, 32, 227 * 1024 + 1));
  settings().shared_limit_bytes = 163 * 1024;
  expect_error("of sm_80", {"166913 bytes", "166912"}, run(1, 32, 163 * 1024 + 1));
  settings().shared_limit_bytes = kMaxSharedBytes;
  expect_error("no blocks", {"the grid has 0 blocks"}, run(0, 32, 0));
  for (unsigned threads : {0u, 31u, 1056u}) {
    expect_error("threads", {std::to_string(threads) + " threads"}, run(1, threads, 0));
  }
  expect_error("outside of kernels", {"outside of any kernel", "kernels alone"},
               [] { cp_async_commit(); });
  expect_error("a launch in a kernel", {"kernels launch none"},
               launching(+[] { longattn::cuda::launch("idle", nothing, 1, 32, 0, nullptr); }, 0));
  expect_error("an exception of the kernel", {"a sentence"},
               launching(+[] { throw std::runtime_error("a sentence"); }, 0));
}

__global__ void read_at(const void* pointer) { load_global_16(pointer); }

__global__ void write_at(void* pointer) { store_global_16(pointer, make_uint4(0, 0, 0, 0)); }

__global__ void copy_from(const void* pointer, bool valid) {
  cp_async_16(shared_address(&shared_memory<Plan>()), pointer, valid);
  cp_async_commit();
  cp_async_wait<0>();
}

__global__ void read_shared_as_global() { load_global_16(&shared_memory<Plan>()); }

__global__ void write_for(float* places, int step) {
  store_global_float(places + blockIdx.x * step, 1.0f);
}

// The first 16 lanes write their block's place; the others read that of the block before.
__global__ void write_and_read(float* places) {
  if (threadIdx.x < 16) store_global_float(places + blockIdx.x, 1.0f);
  if (threadIdx.x >= 16 && blockIdx.x > 0) load_global_float(places + blockIdx.x - 1);
}

void test_blocks_apart() {
  std::array<float, 4> places = {};
  const auto write = [&](int step) {
    return [&, step] {
      longattn::cuda::launch("write_for", write_for, 3, 32, 0, nullptr, places.data(), step);
    };
  };
  expect("each its own place", error_of(write(1)).empty());
  expect("the next launch may write them again", error_of(write(1)).empty());
  expect_error("one place", {"st.global at test_memory.cpp:", "writes what block"}, write(0));
  const auto read = [&] {
    longattn::cuda::launch("write_and_read", write_and_read, 3, 32, 0, nullptr, places.data());
  };
  settings().order = Order::kRoundRobin;
  expect_error("another's place", {"ld.global at", "reads what block 0"}, read);
}

// Every block notes how many have run before it.
__global__ void note_turn(unsigned* turns, unsigned* count) {
  if (threadIdx.x == 0) turns[blockIdx.x] = (*count)++;
}

void test_order_of_blocks() {
  const auto turns = [](Order order) {
    settings() = {.order = order};
    std::vector<unsigned> turns(64);
    unsigned count = 0;
    longattn::cuda::launch("note_turn", note_turn, 64, 32, 0, nullptr, turns.data(), &count);
    return turns;
  };
  const std::vector<unsigned> ascending = turns(Order::kRoundRobin);
  expect("ascending", ascending[0] == 0 && ascending[63] == 63);
  expect("forward", turns(Order::kForward) == ascending);
  const std::vector<unsigned> reversed = turns(Order::kReverse);
  expect("descending", reversed[0] == 63 && reversed[63] == 0);
  const std::vector<unsigned> shuffled = turns(Order::kRandom);
  expect("by chance", shuffled != ascending && shuffled != reversed);
}

void test_global_errors() {
  alignas(16) static std::array<char, 96> memory;
  char* begin = memory.data();
  expect("anything is allowed", error_of(launching(write_at, 32, begin)).empty());
  allow(begin + 16, 32);
  allow_reading(begin + 64, 16);
  expect("inside", error_of(launching(write_at, 32, begin + 32)).empty());
  expect("read only, read", error_of(launching(read_at, 32, begin + 64)).empty());
  expect("zeros", error_of(launching(copy_from, 32, begin, false)).empty());
  expect_error("before", {"ld.global at test_memory.cpp:", "reads 16 bytes", "16 bytes before"},
               launching(read_at, 32, begin));
  expect_error("behind", {"st.global at", "writes", "16 bytes before", "and is read only"},
               launching(write_at, 32, begin + 48));
  expect_error("read only, written", {"st.global at", "0 bytes after", "16 bytes and is read only"},
               launching(write_at, 32, begin + 64));
  expect_error("copied", {"cp.async at", "16 bytes after"},
               launching(copy_from, 32, begin + 80, true));
  forget_allowed();
  expect("forgotten", error_of(launching(read_at, 32, begin)).empty());
  expect_error("unaligned", {"ld.global", "not a multiple of 16"},
               launching(read_at, 32, begin + 4));
  expect_error("shared memory", {"ld.global", "lies in shared memory"},
               launching(read_shared_as_global, 32));
}

}  // namespace

int main() {
  settings().races = false;  // threads look at what others do on purpose
  under_every_setting([](const std::string& setting) {
    test_values(setting);
    test_shared_errors();
    test_canary();
    test_global_errors();
  });
  test_blocks_apart();
  test_order_of_blocks();
  settings() = {};
  test_launch_errors();
  return report();
}
