// SPDX-License-Identifier: BSD-3-Clause
// Blocks of the key gradient: each key tile is worked on by every query once, whole or in slices,
// and no two slices share a place in the workspace.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "cuda/schedule/key_work.h"

namespace {

using namespace longattn;
using namespace longattn::cuda;

constexpr int32_t kKeyTile = 4;

[[noreturn]] void fail(const char* what, const SequenceLayout& layout, const SinkSlices& sinks) {
  std::printf("FAILED: %s: split %d, %lld sequences, %lld x %lld, %d sink rows, slices of %d\n",
              what, static_cast<int>(layout.split), static_cast<long long>(layout.batch),
              static_cast<long long>(layout.q_len), static_cast<long long>(layout.kv_len),
              sinks.rows, sinks.queries);
  std::exit(1);
}

// Queries that work on a key tile: (sequence, head, first key) -> how often each of them does.
using Visits = std::map<std::tuple<int64_t, int32_t, int32_t>, std::vector<int>>;

void check(const SequenceLayout& layout, SinkSlices sinks, int32_t heads) {
  sinks.blocks = tile_slots(layout, tiled_queries(layout, sinks.queries)) * heads *
                 (sinks.rows / kKeyTile);
  const int64_t blocks =
      sinks.blocks + tile_slots(layout, tiled_keys(layout, kKeyTile)) * heads;
  Visits visits;
  std::set<std::tuple<int64_t, int32_t, int32_t>> places;
  for (int64_t index = 0; index < blocks; ++index) {
    const KeyWork work = key_work_at(layout, sinks, heads, kKeyTile, index);
    if (!work.exists) continue;
    const Sequence sequence = sequence_at(layout, work.sequence, work.head, heads);
    if (work.first_key >= sequence.k_len) continue;
    auto& counts = visits[{work.sequence, work.head, work.first_key}];
    counts.resize(sequence.q_len);
    for (int32_t row = work.first_query; row < std::min(work.end_query, sequence.q_len); ++row) {
      ++counts[row];
    }
    const bool first = work.first_query == 0;
    if (first != (work.share < 0)) fail("the wrong slice adds itself", layout, sinks);
    if (first) continue;
    if (work.share >= share_count(layout, sinks.queries)) fail("a share too many", layout, sinks);
    if (!places.emplace(work.share, work.head, work.first_key).second) {
      fail("two slices leave one share", layout, sinks);
    }
    const int64_t number = work.first_query / sinks.queries;
    if (work.share != first_share(layout, work.sequence, sinks.queries) + number - 1) {
      fail("a share lies elsewhere than it is looked for", layout, sinks);
    }
    if (number >= slices_of(layout, work.sequence, sinks.queries)) {
      fail("a slice that nobody adds", layout, sinks);
    }
  }
  for (int64_t s = 0; s < sequences_of(layout); ++s) {
    for (int32_t head = 0; head < heads; ++head) {
      const Sequence sequence = sequence_at(layout, s, head, heads);
      for (int32_t key = 0; key < sequence.k_len && sequence.q_len > 0; key += kKeyTile) {
        const auto& counts = visits[{s, head, key}];
        const bool once = std::all_of(counts.begin(), counts.end(), [](int n) { return n == 1; });
        if (!once || counts.empty()) fail("a query is lost or comes twice", layout, sinks);
      }
    }
  }
}

}  // namespace

int main() {
  std::mt19937 random(5);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  constexpr int kProblems = 5000;
  for (int i = 0; i < kProblems; ++i) {
    SequenceLayout layout{};
    layout.split = static_cast<Split>(draw(0, 2));
    layout.batch = draw(1, 5);
    layout.q_len = draw(1, 60);
    layout.kv_len = draw(1, 60);
    layout.segment_length = draw(1, 40);
    layout.rate = draw(1, 4);
    std::vector<int32_t> q_borders{0}, k_borders{0};
    for (int64_t s = 1; s < layout.batch; ++s) {
      q_borders.push_back(draw(0, static_cast<int>(layout.q_len)));
      k_borders.push_back(draw(0, static_cast<int>(layout.kv_len)));
    }
    q_borders.push_back(static_cast<int32_t>(layout.q_len));
    k_borders.push_back(static_cast<int32_t>(layout.kv_len));
    std::sort(q_borders.begin(), q_borders.end());
    std::sort(k_borders.begin(), k_borders.end());
    layout.cu_seqlens_q = q_borders.data();
    layout.cu_seqlens_k = k_borders.data();
    check(layout, {draw(0, 3) * kKeyTile, draw(1, 30), 0, nullptr, nullptr}, draw(1, 3));
  }
  std::printf("%d random problems: every key tile meets every query once\n", kProblems);
  return 0;
}
