// SPDX-License-Identifier: BSD-3-Clause
#include "machine/report.h"

#include <cstdio>
#include <stdexcept>
#include <vector>

#include "machine/block.h"

namespace simt {
namespace {

bool waits_alike(const Thread& a, const Thread& b) {
  return a.waits_in == b.waits_in && a.barrier == b.barrier && a.where.line() == b.where.line() &&
         a.where.column() == b.where.column() && (a.barrier >= 0 || a.warp() == b.warp());
}

// "0..31, 64..95"
std::string ranges(const std::vector<int>& numbers) {
  std::string listed;
  for (size_t begin = 0; begin < numbers.size();) {
    size_t end = begin + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!listed.empty()) listed += ", ";
    listed += std::to_string(numbers[begin]);
    if (end - begin > 1) listed += ".." + std::to_string(numbers[end - 1]);
    begin = end;
  }
  return listed;
}

std::string what_is_missing(const Thread& thread) {
  if (thread.barrier < 0) {
    return "[lanes " + hexadecimal(block().warps[thread.warp()].arrived) + " of warp " +
           std::to_string(thread.warp()) + " have arrived]";
  }
  const Barrier& barrier = block().barriers[thread.barrier];
  return "[barrier " + std::to_string(thread.barrier) + ": " + std::to_string(barrier.arrived) +
         " of " + std::to_string(barrier.expected) + " threads have arrived]";
}

}  // namespace

std::string hexadecimal(uint32_t number) {
  char text[11];
  std::snprintf(text, sizeof text, "0x%08x", static_cast<unsigned>(number));
  return text;
}

std::string error_prefix() {
  const Block& b = block();
  if (b.running == nullptr) return "simt: outside of any kernel: ";
  const Thread& thread = *b.running;
  return "simt: kernel " + b.kernel + ", block " + std::to_string(b.index) + ", thread " +
         std::to_string(thread.index) + " (warp " + std::to_string(thread.warp()) + ", lane " +
         std::to_string(thread.lane()) + "): ";
}

void fail(const std::string& sentence) { throw std::runtime_error(error_prefix() + sentence); }

std::string deadlock_report() {
  const Block& b = block();
  std::string report = "deadlock: no thread can go on.";
  std::vector<bool> listed(b.thread_count);
  for (int first = 0; first < b.thread_count; ++first) {
    const Thread& thread = b.threads[first];
    if (listed[first] || thread.exited) continue;
    std::vector<int> alike;
    for (int other = first; other < b.thread_count; ++other) {
      if (!waits_alike(thread, b.threads[other])) continue;
      listed[other] = true;
      alike.push_back(other);
    }
    report += "\n  threads " + ranges(alike) + " wait in " + thread.waits_in + " at " +
              text(thread.where) + " " + what_is_missing(thread);
  }
  int exited = 0;
  for (int index = 0; index < b.thread_count; ++index) exited += b.threads[index].exited;
  return report + "\n  " + std::to_string(exited) + " threads have exited";
}

}  // namespace simt
