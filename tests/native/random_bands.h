// SPDX-License-Identifier: BSD-3-Clause
// Random bands, and what they show by definition: pair by pair, without the bands' own bounds.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "semantics/tiles.h"

namespace random_bands {

using namespace longattn;

inline int64_t groups_back(const BandTerm& term, int64_t diagonal, int64_t key) {
  const int64_t shift = term.b % term.a;
  const auto group = [&](int64_t position) {
    int64_t quotient = (position - shift) / term.a;
    while (quotient * term.a > position - shift) --quotient;
    return quotient;
  };
  return group(diagonal) - group(key);
}

inline bool term_shows(const BandTerm& term, int64_t diagonal, int64_t key) {
  switch (term.kind) {
    case TermKind::kDiagonal: {
      const int64_t distance = diagonal - key;
      return (term.a == kUnbounded || distance <= term.a) &&
             (term.b == kUnbounded || -distance <= term.b);
    }
    case TermKind::kGroups:
      return groups_back(term, diagonal, key) == term.b / term.a;
    case TermKind::kRecentGroups: {
      const int64_t back = groups_back(term, diagonal, key);
      return back >= 0 && back <= term.b / term.a;
    }
    case TermKind::kPrefix:
      return key < term.a || key <= diagonal;
    case TermKind::kLeading:
      return key < term.a;
  }
  return false;
}

inline bool shows(const HeadBand& band, int64_t diagonal, int64_t key) {
  for (int i = 0; i < band.term_count; ++i) {
    if (!term_shows(band.terms[i], diagonal, key)) return false;
  }
  return band.soft_left == kUnbounded || diagonal - key <= band.soft_left || key < band.sink_end;
}

[[noreturn]] inline void fail(const char* what, const HeadBand& band, const Sequence& sequence) {
  std::printf("FAILED: %s\n  soft_left %d sink_end %d q_len %d k_len %d diagonal %lld\n", what,
              band.soft_left, band.sink_end, sequence.q_len, sequence.k_len,
              static_cast<long long>(sequence.diagonal));
  for (int i = 0; i < band.term_count; ++i) {
    std::printf("  term kind %d a %d b %d\n", static_cast<int>(band.terms[i].kind),
                band.terms[i].a, band.terms[i].b);
  }
  std::exit(1);
}

struct Pairs {
  const HeadBand& band;
  const Sequence& sequence;

  // Visible pairs of query rows [q_begin, q_end) and keys [k_begin, k_end).
  int count(int q_begin, int q_end, int k_begin, int k_end) const {
    int visible = 0;
    for (int row = q_begin; row < q_end && row < sequence.q_len; ++row) {
      for (int key = k_begin; key < k_end && key < sequence.k_len; ++key) {
        visible += shows(band, sequence.diagonal + row, key);
      }
    }
    return visible;
  }
};

inline HeadBand random_band(std::mt19937& random) {
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  HeadBand band{kUnbounded, 0, 0, {}};
  const auto add = [&](TermKind kind, int a, int b) {
    band.terms[band.term_count++] = {kind, a, b};
  };
  if (draw(0, 9) == 0) {
    // The far band of two: it begins beyond the diagonal, and only leading keys are joined to it.
    const int right = -draw(0, 9);
    add(TermKind::kDiagonal, draw(0, 1) ? kUnbounded : draw(-right, 14), right);
    if (band.terms[0].a == kUnbounded && draw(0, 1)) add(TermKind::kLeading, draw(0, 12), 0);
    return band;
  }
  if (draw(0, 9) == 0) {
    // One group back there, as far as rows and keys go: also groups that no row or no key has.
    const int size = draw(1, 11);
    add(TermKind::kGroups, size, draw(0, size - 1) + size * draw(1, 3));
    if (draw(0, 1)) add(TermKind::kDiagonal, kUnbounded, draw(0, 5));
    return band;
  }
  if (draw(0, 1)) {
    band.soft_left = draw(0, 12);
    band.sink_end = draw(0, 9);
  }
  const auto bound = [&](int high) { return draw(0, high + 1) ? draw(0, high) : kUnbounded; };
  if (draw(0, 2)) add(TermKind::kDiagonal, bound(14), bound(5));
  if (draw(0, 2) == 0) {
    const int size = draw(1, 11);
    add(TermKind::kGroups, size, draw(0, size - 1));
  }
  if (draw(0, 3) == 0) add(TermKind::kPrefix, draw(0, 12), 0);
  if (draw(0, 5) == 0) {
    const int size = draw(1, 11);
    add(TermKind::kRecentGroups, size, draw(0, size - 1) + size * draw(0, 3));
  }
  return band;
}

}  // namespace random_bands
