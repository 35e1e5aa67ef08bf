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
    const auto fill = [&](auto bias) {
      for (int i = kFirstEntry - (keys.count() - 1); i < kFirstEntry + tile.count; ++i) {
        strip_[i] = bias((distance + i - kFirstEntry) * step) * static_cast<Real>(kLog2E);
      }
    };
    if (bias_.kind == BiasKind::kLinear) {  // apart, so that the loop has no branch
      const Real slope = static_cast<const Real*>(bias_.values)[tile.head];
      fill([slope](int64_t away) { return linear_bias(slope, away); });
    } else {
      fill([&](int64_t away) { return bias_at<Real>(bias_, tile.head, away); });
    }
    // Rows beyond the tile's end: any number, their scores are hidden or never stored.
    std::fill(strip_ + kFirstEntry + tile.count, strip_ + kStrip, Real(0));
  }

  // Log2 units.
  Vector score(Vector product, int key, int lane) const {
    const Vector scaled = Lanes::multiply(product, Lanes::broadcast(scale_));
    return capped_ ? capped_score(tanh<Lanes>(scaled), key, lane) : biased(scaled, key, lane);
  }

  // The same, and d capped score / d score, where there is a cap.
  Vector score(Vector product, int key, int lane, Vector& slope) const {
    const Vector t = tanh<Lanes>(Lanes::multiply(product, Lanes::broadcast(scale_)));
    slope = Lanes::subtract(Lanes::broadcast(Real(1)), Lanes::multiply(t, t));
    return capped_score(t, key, lane);
  }

 private:
  static constexpr int kFirstEntry = kKeyTile - 1;  // of row 0 and key 0
  static constexpr int kStrip = kQueryTile + kKeyTile;

  Vector capped_score(Vector t, int key, int lane) const {
    return biased(Lanes::multiply(t, Lanes::broadcast(cap_)), key, lane);
  }

  Vector biased(Vector score, int key, int lane) const {
    return has_bias_ ? Lanes::add(score, Lanes::load(strip_ + kFirstEntry - key + lane)) : score;
  }

  const Bias& bias_;
  const bool has_bias_;
  const bool capped_;
  const Real scale_;  // into log2 units, or into the argument of tanh
  const Real cap_;    // log2 units
  alignas(64) Real strip_[kStrip];
};

}  // namespace longattn::inline LONGATTN_ISA
