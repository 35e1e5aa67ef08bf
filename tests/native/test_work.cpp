// SPDX-License-Identifier: BSD-3-Clause
// Thread blocks find their work: every tile of every sequence and head exactly once, whatever the
// layout; and with bad borders still nothing outside of the tensors.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "cuda/schedule/work.h"

namespace {

using namespace longattn;
using cuda::TiledRows;
using cuda::Work;

[[noreturn]] void fail(const char* what) {
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

void check(const SequenceLayout& layout, int32_t tile, int32_t heads, bool last_tile_first) {
  const TiledRows rows = cuda::tiled_queries(layout, tile);
  std::map<std::tuple<int64_t, int32_t, int32_t>, int> visits;
  int32_t previous = last_tile_first ? 1 << 30 : -1;
  for (int64_t i = 0; i < cuda::tile_slots(layout, rows) * heads; ++i) {
    const Work work = cuda::work_at(layout, rows, heads, i, last_tile_first);
    const Sequence sequence = sequence_at(layout, work.sequence, work.head, heads);
    if (work.first_row % tile != 0) fail("a tile does not begin at a multiple of its size");
    if (layout.split == Split::kBatch) {
      const int64_t step = int64_t{work.first_row} - previous;
      const bool in_order = last_tile_first ? step <= 0 : step >= 0;
      if (!in_order) fail("tiles do not come in the order of their work");
      previous = work.first_row;
    }
    if (work.first_row < sequence.q_len) {
      ++visits[{work.sequence, work.head, work.first_row}];
    }
  }
  for (int64_t index = 0; index < sequences_of(layout); ++index) {
    for (int32_t head = 0; head < heads; ++head) {
      const Sequence sequence = sequence_at(layout, index, head, heads);
      for (int32_t row = 0; row < sequence.q_len; row += tile) {
        if (visits[{index, head, row}] != 1) fail("a tile is missed or worked on twice");
      }
    }
  }
}

void check_bad_borders(std::mt19937& random) {
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  std::vector<int32_t> borders(draw(2, 7));
  for (int32_t& border : borders) border = draw(-50, 200);
  SequenceLayout layout{};
  layout.split = Split::kPacked;
  layout.batch = static_cast<int64_t>(borders.size()) - 1;
  layout.q_len = layout.kv_len = draw(0, 120);
  layout.cu_seqlens_q = layout.cu_seqlens_k = borders.data();
  const TiledRows rows = cuda::tiled_queries(layout, 16);
  for (int64_t i = 0; i < cuda::tile_slots(layout, rows); ++i) {
    const Work work = cuda::work_at(layout, rows, 1, i, false);
    if (work.sequence < 0 || work.sequence >= layout.batch) fail("no such sequence");
    if (work.first_row < 0) fail("a tile before the first row");
    const Sequence sequence = sequence_at(layout, work.sequence, 0, 1);
    if (sequence.q_row < 0 || sequence.q_row + sequence.q_len > layout.q_len) {
      fail("rows outside of the tensor");
    }
  }
}

}  // namespace

int main() {
  std::mt19937 random(11);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int i = 0; i < 4000; ++i) {
    SequenceLayout layout{};
    std::vector<int32_t> borders{0};
    layout.split = static_cast<Split>(draw(0, 2));
    layout.batch = draw(1, 5);
    layout.q_len = layout.kv_len = draw(0, 90);
    layout.segment_length = draw(1, 40);
    layout.rate = draw(1, 5);
    if (layout.split == Split::kPacked) {
      for (int64_t s = 0; s < layout.batch; ++s) borders.push_back(borders.back() + draw(0, 40));
      layout.q_len = layout.kv_len = borders.back();
      layout.cu_seqlens_q = layout.cu_seqlens_k = borders.data();
    }
    check(layout, draw(1, 17), draw(1, 4), draw(0, 1));
    check_bad_borders(random);
  }
  std::printf("4000 layouts are covered tile by tile\n");
  return 0;
}
