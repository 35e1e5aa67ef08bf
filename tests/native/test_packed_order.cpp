// SPDX-License-Identifier: BSD-3-Clause
// What it costs that packed sequences are worked on last one first, and only within a sequence
// longest work first: how long a GPU is busy with causal queries, against all longest work first.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <queue>
#include <vector>

#include "cuda/schedule/work.h"

namespace {

using namespace longattn;

constexpr int kSlots = 264;  // two blocks on each of 132 multiprocessors
constexpr int kTile = 128, kKeysOfTile = 64;
constexpr double kWorkOfBlock = 1.5;  // beside its key tiles, in the same unit

// Blocks begin in order, wherever there is room first.
double makespan(const std::vector<double>& blocks) {
  std::priority_queue<double, std::vector<double>, std::greater<>> ends(
      std::greater<>(), std::vector<double>(kSlots, 0.0));
  double last = 0.0;
  for (double work : blocks) {
    const double end = ends.top() + work;
    ends.pop();
    ends.push(end);
    last = std::max(last, end);
  }
  return last;
}

std::vector<double> blocks_in_order(const std::vector<int>& lengths, int heads) {
  std::vector<int32_t> borders{0};
  for (int length : lengths) borders.push_back(borders.back() + length);
  SequenceLayout layout{};
  layout.split = Split::kPacked;
  layout.batch = static_cast<int64_t>(lengths.size());
  layout.q_len = layout.kv_len = borders.back();
  layout.cu_seqlens_q = layout.cu_seqlens_k = borders.data();
  const cuda::TiledRows rows = cuda::tiled_queries(layout, kTile);
  std::vector<double> blocks;
  for (int64_t i = 0; i < cuda::tile_slots(layout, rows) * heads; ++i) {
    const cuda::Work work = cuda::work_at(layout, rows, heads, i, /*last_tile_first=*/true);
    const int length = lengths[work.sequence];
    if (work.first_row >= length) continue;
    const int keys = std::min(work.first_row + kTile, length);
    blocks.push_back(kWorkOfBlock + static_cast<double>(keys) / kKeysOfTile);
  }
  return blocks;
}

std::vector<int> with(std::vector<int> lengths, int count, int length) {
  lengths.insert(lengths.end(), count, length);
  return lengths;
}

}  // namespace

int main() {
  const struct {
    const char* name;
    std::vector<int> lengths;
  } kCases[] = {
      {"a long one first, 16 of 1000", with({16384}, 16, 1000)},
      {"a long one first, 64 of 512", with({32768}, 64, 512)},
      {"a long one first, 256 of 256", with({4096}, 256, 256)},
      {"a long one first, 1000 of 100", with({2048}, 1000, 100)},
      {"a long one last", {1000, 1000, 1000, 1000, 1000, 1000, 16384}},
      {"falling", {8000, 7000, 6000, 5000, 4000, 3000, 2000, 1000}},
      {"rising", {1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000}},
      {"equal", with({}, 16, 2048)},
  };
  int failures = 0;
  for (const auto& packed : kCases) {
    for (int heads : {8, 32}) {
      const std::vector<double> blocks = blocks_in_order(packed.lengths, heads);
      std::vector<double> sorted = blocks;
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      const double ours = makespan(blocks), best = makespan(sorted);
      std::printf("%-30s %2d heads: %7.1f, longest first %7.1f: %.3f\n", packed.name, heads, ours,
                  best, ours / best);
      // Never more than the longest block late, which is little where there is much to do.
      const double sum = std::accumulate(blocks.begin(), blocks.end(), 0.0);
      const bool late = ours > sum / kSlots + sorted.front();
      const bool slow = heads == 32 && ours > 1.02 * best;
      if (late || slow) {
        std::printf("FAILED: that is too late\n");
        ++failures;
      }
    }
  }
  return failures != 0;
}
