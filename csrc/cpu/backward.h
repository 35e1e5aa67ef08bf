// SPDX-License-Identifier: BSD-3-Clause
// Backward: one tile of queries of one head against all the key tiles that it sees. The row's lse
// and delta belong to the whole softmax, so that gradients of partials simply add up.
#pragma once

#include "cpu/arena.h"
#include "cpu/distance_sums.h"
#include "cpu/key_gradients.h"
#include "cpu/query_panel.h"
#include "cpu/query_tile.h"
#include "cpu/score_rule.h"
#include "cpu/visibility.h"
#include "semantics/softmax_state.h"

namespace longattn::inline LONGATTN_ISA {

template <class Precision>
class Backward {
 public:
  using Lanes = typename Precision::Lanes;
  using Vector = typename Precision::Vector;
  using Element = typename Precision::Element;
  using Real = typename Precision::Real;
  using Unit = typename Precision::Unit;
  using WeightElement = typename Precision::WeightElement;
  using Matmul = typename Precision::Matmul;

  // Adds to dk and dv, and to dq or writes it. Returns the number of tiles visited.
  static int64_t run(const BackwardProblem& problem, const KeyGradients& gradients,
                     const Sequence& sequence, int32_t head, int32_t first_row, void* scratch) {
    const QueryTile tile = query_tile(problem, sequence, head, first_row);
    if (tile_count(tile.tiles) == 0 && !problem.writes) return 0;
    [[maybe_unused]] const typename Matmul::Session session;
    Backward backward(problem, gradients, tile, Arena(scratch));
    for_each_key_range(tile, [&](const KeyRange& keys) { backward.visit(keys); });
    backward.store_dq();
    return tile_count(tile.tiles);
  }

 private:
  Backward(const BackwardProblem& problem, const KeyGradients& gradients, const QueryTile& tile,
           Arena arena)
      : problem_(problem), gradients_(gradients), tile_(tile), arena_(arena), rule_(problem) {
    vectors_ = round_up(tile.count, Precision::kLaneGranule) / Lanes::kWidth;
    const auto q = query_rows<Element>(problem.q, tile, problem.head_dim);
    const auto dout = query_rows<Element>(problem.dout, tile, problem.value_dim);
    q_over_dims_ = Precision::lanes_are_rows(q, arena_);
    q_over_rows_ = Precision::lanes_are_dims(q, arena_);
    dout_over_dims_ = Precision::lanes_are_rows(dout, arena_);
    dout_over_rows_ = Precision::lanes_are_dims(dout, arena_);
    constexpr size_t kTile = (kKeyTile + Precision::kKeyGranule) * kQueryTile;
    p_ = arena_.template take<Real>(kTile);
    if (rule_.is_capped()) slope_ = arena_.template take<Real>(kTile);
    p_weights_ = arena_.template take<WeightElement>(kTile);
    ds_weights_ = arena_.template take<WeightElement>(kTile);
    dq_ = arena_.template take<Real>(static_cast<size_t>(problem.head_dim) * kQueryTile);
    std::fill_n(dq_, static_cast<size_t>(problem.head_dim) * kQueryTile, Real(0));
    load_rows();
  }

  void load_rows() {
    const Sequence& sequence = tile_.sequence;
    for (int row = 0; row < kQueryTile; ++row) {
      reference_[row] = static_cast<Real>(INFINITY);
      delta_[row] = 0;
      if (row >= tile_.count) continue;
      const int64_t stored_row = sequence.q_row + (tile_.first_row + row) * sequence.row_step;
      const Real lse = *row_pointer<Real>(problem_.lse, sequence.batch, stored_row, tile_.head);
      reference_[row] = weight_reference(lse);
      delta_[row] = *row_pointer<Real>(problem_.delta, sequence.batch, stored_row, tile_.head);
    }
  }

  void visit(const KeyRange& keys) {
    Arena arena = arena_;
    const auto k = key_rows<Element>(problem_.k, tile_.sequence, kv_head(), keys,
                                     problem_.head_dim);
    const auto v = key_rows<Element>(problem_.v, tile_.sequence, kv_head(), keys,
                                     problem_.value_dim);
    const LeftRoles k_left = Precision::left(k, Need::kBoth, arena);
    const LeftRoles v_left = Precision::left(v, Need::kByRow, arena);
    compute_weights(keys, k_left.by_row);
    compute_score_gradients(keys.count(), v_left.by_row);
    if (wants_bias()) add_by_distance<Lanes>(problem_, tile_, keys, p_);
    add_to_keys(gradients_.dv, keys, p_weights_, dout_over_rows_, problem_.value_dim);
    add_to_keys(gradients_.dk, keys, ds_weights_, q_over_rows_, problem_.head_dim);
    accumulate_dq(keys.count(), k_left.by_dim, arena);
  }

  // p = 2^(scores - lse) [keys][queries]
  void compute_weights(const KeyRange& keys, LeftOperand k) {
    const Vector scale = Lanes::broadcast(static_cast<Real>(problem_.softmax_scale * kLog2E));
    if (!keys.full) visibility_.aim_at(tile_, keys);
    rule_.aim_at(tile_, keys);
    const bool plain = rule_.is_plain();
    const int steps = Precision::steps(problem_.head_dim);
    Matmul::multiply(k, keys.count(), q_over_dims_, vectors_, steps,
                     [&](int first_key, int vector, const auto& sum) {
                       for_block(first_key, vector, sum, [&](int key, int lane, Vector s) {
                         const Vector reference = Lanes::load(reference_ + lane);
                         Vector score = plain    ? Lanes::multiply(s, scale)
                                        : slope_ ? capped_score(s, key, lane)
                                                 : rule_.score(s, key, lane);
                         score = Lanes::subtract(score, reference);
                         if (!keys.full) score = visibility_.hide(score, key, lane);
                         const Vector p = Lanes::exp2(score);
                         Lanes::store(p_ + key * kQueryTile + lane, p);
                         Precision::store_weight(p_weights_, key, lane, p);
                       });
                     });
  }

  Vector capped_score(Vector product, int key, int lane) {
    Vector slope;
    const Vector score = rule_.score(product, key, lane, slope);
    Lanes::store(slope_ + key * kQueryTile + lane, slope);
    return score;
  }

  // ds = softmax_scale * p * (V dO^T - delta), times the slope of the cap; where the bias asks for
  // it, p * (V dO^T - delta) is left in p.
  void compute_score_gradients(int count, LeftOperand v) {
    const Vector scale = Lanes::broadcast(static_cast<Real>(problem_.softmax_scale));
    const bool sums_bias = wants_bias();
    Matmul::multiply(v, count, dout_over_dims_, vectors_, Precision::steps(problem_.value_dim),
                     [&](int first_key, int vector, const auto& sum) {
                       for_block(first_key, vector, sum, [&](int key, int lane, Vector dp) {
                         const Vector p = Lanes::load(p_ + key * kQueryTile + lane);
                         const Vector centred = Lanes::subtract(dp, Lanes::load(delta_ + lane));
                         Vector ds = Lanes::multiply(Lanes::multiply(p, scale), centred);
                         const int place = key * kQueryTile + lane;
                         if (slope_) ds = Lanes::multiply(ds, Lanes::load(slope_ + place));
                         if (sums_bias) Lanes::store(p_ + place, Lanes::multiply(p, centred));
                         Precision::store_weight(ds_weights_, key, lane, ds);
                       });
                     });
  }

  // dv += p dO, dk += ds Q: lanes are dims, summed over the tile's queries.
  void add_to_keys(const TensorView& gradient, const KeyRange& keys, const WeightElement* weights,
                   RightOperand<Unit> rows, int dim) {
    const Sequence& sequence = tile_.sequence;
    const int64_t row = gradients_.keys.place(sequence.k_row + keys.begin * sequence.row_step);
    Real* const data = row_pointer<Real>(gradient, sequence.batch, row, kv_head());
    const int64_t stride = gradient.row_stride * sequence.row_step;
    const int vectors = round_up(dim, Lanes::kWidth) / Lanes::kWidth;
    Matmul::multiply(Precision::weights_by_key(weights), keys.count(), rows, vectors,
                     Precision::steps(tile_.count),
                     [&](int first_key, int vector, const auto& sum) {
                       for_block(first_key, vector, sum, [&](int key, int lane, Vector value) {
                         add(data + key * stride + lane, value, dim - lane);
                       });
                     });
  }

  static void add(Real* target, Vector value, int count) {
    if (count >= Lanes::kWidth) {
      Lanes::store(target, Lanes::add(Lanes::load(target), value));
    } else {
      Lanes::store_first(target, Lanes::add(Lanes::load_first(target, count), value), count);
    }
  }

  // dq += K^T ds, transposed: [head_dim][queries]
  void accumulate_dq(int count, LeftOperand k_by_dim, Arena& arena) {
    const auto ds = Precision::weights_over_keys(ds_weights_, count, arena);
    Matmul::multiply(k_by_dim, problem_.head_dim, ds, vectors_, Precision::steps(count),
                     [&](int first_dim, int vector, const auto& sum) {
                       for_block(first_dim, vector, sum, [&](int dim, int lane, Vector value) {
                         Real* dq = dq_ + dim * kQueryTile + lane;
                         Lanes::store(dq, Lanes::add(Lanes::load(dq), value));
                       });
                     });
  }

  template <int kRows, int kVectors, class Visit>
  static void for_block(int row, int vector, const Vector (&sum)[kRows][kVectors], Visit visit) {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) visit(row + m, (vector + n) * Lanes::kWidth, sum[m][n]);
    }
  }

  void store_dq() {
    const Sequence& sequence = tile_.sequence;
    for_each_row<Lanes>(dq_, tile_.count, problem_.head_dim, p_, [&](int row, const Real* numbers) {
      const int64_t stored_row = sequence.q_row + (tile_.first_row + row) * sequence.row_step;
      if (problem_.writes) {
        write_row<Lanes, Element>(numbers, problem_.head_dim, problem_.dq, sequence.batch,
                                  stored_row, tile_.head);
      } else {
        add_row(numbers, row_pointer<Real>(problem_.dq, sequence.batch, stored_row, tile_.head));
      }
    });
  }

  void add_row(const Real* numbers, Real* dq) {
    for_each_vector<Lanes>(problem_.head_dim, [&](int d, const auto& load, const auto& store) {
      store(dq + d, Lanes::add(load(dq + d), Lanes::load(numbers + d)));
    });
  }

  bool wants_bias() const { return problem_.bias_gradient.data != nullptr; }
  int32_t kv_head() const { return kv_head_of(problem_, tile_.head); }

  const BackwardProblem& problem_;
  const KeyGradients& gradients_;
  const QueryTile& tile_;
  Arena arena_;
  int vectors_;
  RightOperand<Unit> q_over_dims_;     // [head_dim][kQueryTile]
  RightOperand<Unit> q_over_rows_;     // [kQueryTile][head_dim]
  RightOperand<Unit> dout_over_dims_;  // [value_dim][kQueryTile]
  RightOperand<Unit> dout_over_rows_;  // [kQueryTile][value_dim]
  Real* p_;                            // [keys][kQueryTile]
  WeightElement* p_weights_;           // the same, ready to be an operand
  WeightElement* ds_weights_;
  Real* dq_;  // [head_dim][kQueryTile]
  Real* slope_ = nullptr;  // of the cap, like p; null without a cap
  ScoreRule<Lanes> rule_;
  Visibility<Lanes> visibility_;
  alignas(64) Real reference_[kQueryTile];
  alignas(64) Real delta_[kQueryTile];
};

}  // namespace longattn::inline LONGATTN_ISA
