// SPDX-License-Identifier: BSD-3-Clause
// Sequences against their definition: each dilated sequence holds exactly the rows of one segment
// and one residue, and its diagonal is the true one; packed borders cannot lead outside.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "semantics/sequence.h"

namespace {

using namespace longattn;

[[noreturn]] void fail(const char* what, const SequenceLayout& layout, int64_t index) {
  std::printf("FAILED: %s\n  sequence %lld w %lld r %lld q_start %lld q_len %lld k_start %lld "
              "kv_len %lld\n",
              what, (long long)index, (long long)layout.segment_length, (long long)layout.rate,
              (long long)layout.q_start, (long long)layout.q_len, (long long)layout.k_start,
              (long long)layout.kv_len);
  std::exit(1);
}

int64_t modulo(int64_t value, int64_t base) { return ((value % base) + base) % base; }

// Rows [0, length) at positions start + row that the head keeps in a segment.
std::vector<int64_t> kept_rows(const SequenceLayout& layout, int64_t segment, int64_t offset,
                               int64_t start, int64_t length) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < length; ++row) {
    const int64_t position = start + row;
    const int64_t inside = modulo(position, layout.segment_length);
    if ((position - inside) / layout.segment_length == segment && inside % layout.rate == offset) {
      rows.push_back(row);
    }
  }
  return rows;
}

void check_rows(const std::vector<int64_t>& expected, int64_t first, int64_t step, int64_t count,
                const SequenceLayout& layout, int64_t index) {
  if (static_cast<int64_t>(expected.size()) != count) fail("wrong length", layout, index);
  for (int64_t i = 0; i < count; ++i) {
    if (expected[i] != first + i * step) fail("wrong row", layout, index);
  }
}

void check_dilated(const SequenceLayout& layout, int32_t q_heads) {
  int64_t covered = 0, expected_covered = 0;
  for (int32_t head = 0; head < q_heads; ++head) {
    const int64_t blocks = (q_heads + layout.rate - 1) / layout.rate;
    const int64_t offset = layout.head_offset == HeadOffset::kModulo ? head % layout.rate
                                                                    : head / blocks;
    for (int64_t row = 0; row < layout.q_len; ++row) {
      const int64_t inside = modulo(layout.q_start + row, layout.segment_length);
      expected_covered += inside % layout.rate == offset;
    }
    for (int64_t index = 0; index < segments_of(layout); ++index) {
      const Sequence sequence = sequence_at(layout, index, head, q_heads);
      const int64_t segment = first_segment(layout) + index;
      const auto q = kept_rows(layout, segment, offset, layout.q_start, layout.q_len);
      const auto k = kept_rows(layout, segment, offset, layout.k_start, layout.kv_len);
      check_rows(q, sequence.q_row, sequence.row_step, sequence.q_len, layout, index);
      check_rows(k, sequence.k_row, sequence.row_step, sequence.k_len, layout, index);
      covered += sequence.q_len;
      if (sequence.q_len > longest_q_len(layout)) fail("longer than announced", layout, index);
      if (q.empty() || k.empty()) continue;
      const int64_t distance = (layout.q_start + q[0]) - (layout.k_start + k[0]);
      if (sequence.diagonal * layout.rate != distance) fail("wrong diagonal", layout, index);
    }
  }
  if (covered != expected_covered) fail("segments do not cover the queries", layout, -1);
}

void check_packed() {
  const int32_t good[] = {0, 3, 3, 10}, bad[] = {-5, 40, 7, 99};
  SequenceLayout layout{};
  layout.split = Split::kPacked;
  layout.batch = 3;
  layout.q_len = layout.kv_len = 10;
  layout.cu_seqlens_q = layout.cu_seqlens_k = good;
  const Sequence last = sequence_at(layout, 2, 0, 1);
  if (last.q_row != 3 || last.q_len != 7 || last.diagonal != 0) fail("packed", layout, 2);
  if (sequence_at(layout, 1, 0, 1).q_len != 0) fail("packed, empty sequence", layout, 1);
  layout.cu_seqlens_q = layout.cu_seqlens_k = bad;
  for (int64_t index = 0; index < 3; ++index) {
    const Sequence sequence = sequence_at(layout, index, 0, 1);
    if (sequence.q_row < 0 || sequence.q_len < 0 || sequence.q_row + sequence.q_len > 10) {
      fail("bad borders lead outside", layout, index);
    }
  }
}

}  // namespace

int main() {
  std::mt19937 random(4);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int i = 0; i < 20000; ++i) {
    SequenceLayout layout{};
    layout.split = Split::kDilated;
    layout.batch = 1;
    layout.q_len = draw(0, 30);
    layout.kv_len = draw(0, 30);
    layout.q_start = draw(-12, 25);
    layout.k_start = draw(0, 9);
    layout.segment_length = draw(1, 14);
    layout.rate = draw(1, 6);
    layout.head_offset = draw(0, 1) ? HeadOffset::kModulo : HeadOffset::kBlocks;
    check_dilated(layout, draw(1, 5));
  }
  check_packed();
  std::printf("20000 dilated layouts agree with their definition\n");
  return 0;
}
