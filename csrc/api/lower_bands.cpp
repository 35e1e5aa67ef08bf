// SPDX-License-Identifier: BSD-3-Clause
#include "api/lower_bands.h"

#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "api/argument_pack.h"
#include "semantics/integers.h"

namespace longattn::api {

namespace {

// A count of leading positions becomes a count of leading key rows.
int32_t leading_rows(int64_t positions, int64_t k_start) {
  return static_cast<int32_t>(
      clamp(positions - k_start, 0, std::numeric_limits<int32_t>::max()));
}

// The place of a group: its shift goes by rows instead of positions, and stays below the size.
int32_t lower_place(int32_t size, int32_t place, int64_t k_start) {
  if (size < 1) throw std::invalid_argument("a group has " + std::to_string(size) + " keys");
  if (place < 0) throw std::invalid_argument("a group's place is " + std::to_string(place));
  const int64_t shift = place % size - k_start;
  return static_cast<int32_t>(shift - floor_divide(shift, size) * size + place / size * size);
}

BandTerm lower_term(ArgumentPack& pack, int64_t k_start) {
  const auto kind = static_cast<TermKind>(pack.small());
  const int32_t a = pack.small(), b = pack.small();
  switch (kind) {
    case TermKind::kDiagonal:
      return {kind, a, b};
    case TermKind::kGroups:
    case TermKind::kRecentGroups:
      return {kind, a, lower_place(a, b, k_start)};
    case TermKind::kPrefix:
    case TermKind::kLeading:
      return {kind, leading_rows(a, k_start), b};
  }
  throw std::invalid_argument("unknown mask term " + std::to_string(static_cast<int>(kind)));
}

HeadBand lower_band(ArgumentPack& pack, int64_t k_start) {
  HeadBand band{};
  band.soft_left = pack.small();
  band.sink_end = leading_rows(pack.integer(), k_start);
  band.term_count = pack.small();
  if (band.term_count < 0 || band.term_count > kMaxTerms) {
    throw std::invalid_argument("a mask has " + std::to_string(band.term_count) +
                                " terms, at most " + std::to_string(kMaxTerms) + " are supported");
  }
  for (int i = 0; i < band.term_count; ++i) band.terms[i] = lower_term(pack, k_start);
  return band;
}

}  // namespace

void lower_bands(const std::vector<int64_t>& rules, int64_t k_start, int32_t q_heads,
                 BandTable& table) {
  ArgumentPack pack(rules);
  const int64_t count = pack.integer();
  if (count < 1 || count > kMaxBands) {
    throw std::invalid_argument("a mask has " + std::to_string(count) +
                                " distinct per-head rules, at most " + std::to_string(kMaxBands) +
                                " are supported");
  }
  if (q_heads > kMaxHeads) {
    throw std::invalid_argument("q has " + std::to_string(q_heads) + " heads, at most " +
                                std::to_string(kMaxHeads) + " are supported");
  }
  for (int64_t i = 0; i < count; ++i) table.bands[i] = lower_band(pack, k_start);
  std::memset(table.band_of_head, 0, sizeof(table.band_of_head));
  for (int32_t head = 0; count > 1 && head < q_heads; ++head) {
    const int64_t rule = pack.integer();
    if (rule < 0 || rule >= count) throw std::invalid_argument("a head's rule does not exist");
    table.band_of_head[head] = static_cast<uint8_t>(rule);
  }
  pack.expect_end();
}

}  // namespace longattn::api
