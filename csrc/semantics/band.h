// SPDX-License-Identifier: BSD-3-Clause
// The row band: query row i sees key rows [floor_i, sink_end_i) and [begin_i, end_i), all bounds
// non-decreasing in i. Every mask lowers to it, so no engine knows a mask by name.
#pragma once

#include <cstdint>

#include "semantics/bands/diagonal.h"
#include "semantics/bands/groups.h"
#include "semantics/bands/leading.h"
#include "semantics/bands/prefix.h"
#include "semantics/bands/recent_groups.h"

namespace longattn {

enum class TermKind : int32_t {  // as in masks.py
  kDiagonal,
  kGroups,
  kPrefix,
  kLeading,
  kRecentGroups,
};

struct BandTerm {
  TermKind kind;
  int32_t a;  // diagonal: left; both groups: size; prefix, leading: length
  int32_t b;  // diagonal: right; both groups: shift + size * groups back
};

inline constexpr int kMaxTerms = 4;
inline constexpr int kMaxBands = 128;
inline constexpr int kMaxHeads = 512;

// A row sees what all terms show, but no key further left than soft_left unless it is a sink.
struct HeadBand {
  int32_t soft_left;  // or kUnbounded
  int32_t sink_end;   // key rows [0, sink_end) are sinks
  int32_t term_count;
  BandTerm terms[kMaxTerms];
};

// Heads that share a rule share a band.
struct BandTable {
  HeadBand bands[kMaxBands];
  uint8_t band_of_head[kMaxHeads];
};

// What one row sees: [floor, sink_end) and [begin, end); floor <= sink_end <= begin, and an empty
// band has begin == end.
struct RowBounds {
  int32_t floor;
  int32_t sink_end;
  int32_t begin;
  int32_t end;
};

inline namespace LONGATTN_ISA {

// `diagonal` is the key row at the query's own position (see Sequence::diagonal).
LONGATTN_HOST_DEVICE RowBounds row_bounds(const HeadBand& band, int64_t diagonal, int32_t k_len) {
  KeyBounds keys{0, k_len};
  for (int i = 0; i < band.term_count; ++i) {
    const BandTerm& term = band.terms[i];
    if (term.kind == TermKind::kDiagonal) narrow_to_diagonal(keys, diagonal, term.a, term.b);
    if (term.kind == TermKind::kGroups) narrow_to_group(keys, diagonal, term.a, term.b);
    if (term.kind == TermKind::kPrefix) narrow_to_prefix(keys, diagonal, term.a);
    if (term.kind == TermKind::kLeading) narrow_to_leading(keys, term.a);
    if (term.kind == TermKind::kRecentGroups) {
      narrow_to_recent_groups(keys, diagonal, term.a, term.b);
    }
  }
  const int64_t end = clamp(keys.end, 0, k_len);
  const int64_t floor = clamp(keys.begin, 0, end);
  KeyBounds near{floor, end};
  narrow_to_diagonal(near, diagonal, band.soft_left, kUnbounded);
  const int64_t begin = smaller(near.begin, end);
  const int64_t sink_end = clamp(band.sink_end, floor, begin);
  return {static_cast<int32_t>(floor), static_cast<int32_t>(sink_end),
          static_cast<int32_t>(begin), static_cast<int32_t>(end)};
}

LONGATTN_HOST_DEVICE bool sees(const RowBounds& row, int32_t key) {
  return (key >= row.begin && key < row.end) || (key >= row.floor && key < row.sink_end);
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
