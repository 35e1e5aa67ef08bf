// SPDX-License-Identifier: BSD-3-Clause
// Hides the scores of a partial tile: bounds become lane vectors relative to the tile's first key,
// small enough to be exact in the accumulator's type.
#pragma once

#include <cmath>

#include "cpu/query_tile.h"

namespace longattn::inline LONGATTN_ISA {

template <class Lanes>
class Visibility {
 public:
  using Real = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;

  void aim_at(const QueryTile& tile, const KeyRange& keys) {
    for (int row = 0; row < kQueryTile; ++row) {
      const RowBounds& bounds = tile.bounds[row];
      floor_[row] = relative(bounds.floor, keys);
      sink_end_[row] = relative(bounds.sink_end, keys);
      begin_[row] = relative(bounds.begin, keys);
      end_[row] = relative(bounds.end, keys);
    }
  }

  Vector hide(Vector score, int key, int lane) const {
    const Vector position = Lanes::broadcast(static_cast<Real>(key));
    const Vector hidden = Lanes::broadcast(static_cast<Real>(-INFINITY));
    const Vector sinks = Lanes::select_in_range(score, position, Lanes::load(floor_ + lane),
                                                Lanes::load(sink_end_ + lane), hidden);
    return Lanes::select_in_range(score, position, Lanes::load(begin_ + lane),
                                  Lanes::load(end_ + lane), sinks);
  }

 private:
  static Real relative(int32_t bound, const KeyRange& keys) {
    return static_cast<Real>(clamp(static_cast<int64_t>(bound) - keys.begin, 0, keys.count()));
  }

  alignas(64) Real floor_[kQueryTile];
  alignas(64) Real sink_end_[kQueryTile];
  alignas(64) Real begin_[kQueryTile];
  alignas(64) Real end_[kQueryTile];
};

}  // namespace longattn::inline LONGATTN_ISA
