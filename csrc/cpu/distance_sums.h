// SPDX-License-Identifier: BSD-3-Clause
// The gradient of a bias: sums of a tile's score gradients along its diagonals, added to the share
// of the head.
#pragma once

#include <algorithm>

#include "cpu/query_tile.h"

namespace longattn::inline LONGATTN_ISA {

// `values` [keys][kQueryTile]; lanes beyond the tile's count are zero up to a whole vector.
template <class Lanes>
void add_by_distance(const BackwardProblem& problem, const QueryTile& tile, const KeyRange& keys,
                     const typename Lanes::Scalar* values) {
  using Real = typename Lanes::Scalar;
  constexpr int kFirstEntry = kKeyTile - 1;  // of row 0 and key 0
  alignas(64) Real strip[kQueryTile + kKeyTile] = {};
  // Keys kWidth apart follow each other: what one stores, the next loads whole or not at all.
  for (int residue = 0; residue < Lanes::kWidth; ++residue) {
    for (int key = residue; key < keys.count(); key += Lanes::kWidth) {
      for (int lane = 0; lane < tile.count; lane += Lanes::kWidth) {
        Real* sum = strip + kFirstEntry - key + lane;
        const Real* value = values + key * kQueryTile + lane;
        Lanes::store(sum, Lanes::add(Lanes::load(sum), Lanes::load(value)));
      }
    }
  }
  const BiasGradient& gradient = problem.bias_gradient;
  const Sequence& sequence = tile.sequence;
  const int64_t diagonal = sequence.diagonal + tile.first_row - keys.begin;
  const int64_t distance = diagonal * sequence.row_step - gradient.first_distance;
  Real* sums = static_cast<Real*>(gradient.data) + tile.head * gradient.span + distance;
  for (int i = 1 - keys.count(); i < tile.count; ++i) {
    sums[i * sequence.row_step] += strip[kFirstEntry + i];
  }
}

}  // namespace longattn::inline LONGATTN_ISA
