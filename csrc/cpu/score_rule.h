// SPDX-License-Identifier: BSD-3-Clause
// What lies between the product of q and k and a score, where it is more than a factor: the cap and
// the bias. A bias depends on row - key alone within a tile, so that a strip of it serves the tile,
// and the lanes of a row of scores are neighbours in the strip.
#pragma once

#include "cpu/query_tile.h"
#include "cpu/simd/tanh.h"
#include "semantics/softmax_state.h"

namespace longattn::inline LONGATTN_ISA {

template <class Lanes>
class ScoreRule {
 public:
  using Real = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;

  explicit ScoreRule(const Problem& problem)
      : bias_(problem.bias),
        has_bias_(problem.bias.kind != BiasKind::kNone),
        capped_(problem.softcap > 0),
        scale_(static_cast<Real>(capped_ ? problem.softmax_scale / problem.softcap
                                         : problem.softmax_scale * kLog2E)),
        cap_(static_cast<Real>(problem.softcap * kLog2E)) {}

  // Scores are a factor times the product: nothing here is needed.
  bool is_plain() const { return !has_bias_ && !capped_; }

  bool is_capped() const { return capped_; }

  void aim_at(const QueryTile& tile, const KeyRange& keys) {
    if (!has_bias_) return;
    const int64_t step = tile.sequence.row_step;
    const int64_t distance = tile.sequence.diagonal + tile.first_row - keys.begin;
    const int first = kFirstEntry - (keys.count() - 1);
    for (int i = first; i < kFirstEntry + tile.count; ++i) {
      strip_[i] = bias_at<Real>(bias_, tile.head, (distance + i - kFirstEntry) * step) *
                  static_cast<Real>(kLog2E);
    }
    // Rows beyond the tile's end: any number, their scores are hidden or never stored.
    std::fill(strip_ + kFirstEntry + tile.count, strip_ + kStrip, Real(0));
  }

  // Log2 units.
  Vector score(Vector product, int key, int lane) const {
    const Vector capped = capped_ ? Lanes::multiply(tanh_of(product), Lanes::broadcast(cap_))
                                  : Lanes::multiply(product, Lanes::broadcast(scale_));
    return has_bias_ ? Lanes::add(capped, bias(key, lane)) : capped;
  }

  // d capped score / d score, where there is a cap.
  Vector slope(Vector product) const {
    const Vector t = tanh_of(product);
    return Lanes::subtract(Lanes::broadcast(Real(1)), Lanes::multiply(t, t));
  }

 private:
  static constexpr int kFirstEntry = kKeyTile - 1;  // of row 0 and key 0
  static constexpr int kStrip = kQueryTile + kKeyTile;

  Vector tanh_of(Vector product) const {
    return tanh<Lanes>(Lanes::multiply(product, Lanes::broadcast(scale_)));
  }

  Vector bias(int key, int lane) const { return Lanes::load(strip_ + kFirstEntry - key + lane); }

  const Bias& bias_;
  const bool has_bias_;
  const bool capped_;
  const Real scale_;  // into log2 units, or into the argument of tanh
  const Real cap_;    // log2 units
  alignas(64) Real strip_[kStrip];
};

}  // namespace longattn::inline LONGATTN_ISA
