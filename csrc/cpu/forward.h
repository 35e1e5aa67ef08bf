// SPDX-License-Identifier: BSD-3-Clause
// Forward: one tile of queries of one head against all the key tiles that it sees.
// Scores are held transposed, [keys][queries]: a lane is a query, so that the softmax needs no
// operation across lanes and rows of K and V are used as they lie in memory.
#pragma once

#include "cpu/arena.h"
#include "cpu/query_panel.h"
#include "cpu/query_tile.h"
#include "cpu/score_rule.h"
#include "cpu/simd/elements.h"
#include "cpu/visibility.h"
#include "semantics/softmax_state.h"

namespace longattn::inline LONGATTN_ISA {

template <class Precision>
class Forward {
 public:
  using Lanes = typename Precision::Lanes;
  using Vector = typename Precision::Vector;
  using Element = typename Precision::Element;
  using Real = typename Precision::Real;
  using Unit = typename Precision::Unit;
  using Matmul = typename Precision::Matmul;

  // Returns the number of tiles visited. The tile has at least one row.
  static int64_t run(const ForwardProblem& problem, const Sequence& sequence, int32_t head,
                     int32_t first_row, void* scratch) {
    const QueryTile tile = query_tile(problem, sequence, head, first_row);
    [[maybe_unused]] const typename Matmul::Session session;
    Forward forward(problem, tile, Arena(scratch));
    for_each_key_range(tile, [&](const KeyRange& keys) { forward.visit(keys); });
    forward.store();
    return tile_count(tile.tiles);
  }

 private:
  Forward(const ForwardProblem& problem, const QueryTile& tile, Arena arena)
      : problem_(problem), tile_(tile), arena_(arena), rule_(problem) {
    vectors_ = round_up(tile.count, Precision::kLaneGranule) / Lanes::kWidth;
    queries_ = Precision::lanes_are_rows(
        query_rows<Element>(problem.q, tile, problem.head_dim), arena_);
    scores_ = arena_.template take<Real>((kKeyTile + Precision::kKeyGranule) * kQueryTile);
    static_assert(Lanes::kWidth * 256 <= kKeyTile * kQueryTile);  // rows of `store` fit there
    weights_ = arena_.template take<Unit>((kKeyTile + Precision::kKeyGranule) * kQueryTile);
    out_ = arena_.template take<Real>(static_cast<size_t>(problem.value_dim) * kQueryTile);
    std::fill_n(out_, static_cast<size_t>(problem.value_dim) * kQueryTile, Real(0));
    std::fill_n(max_, kQueryTile, static_cast<Real>(-INFINITY));
    std::fill_n(sum_, kQueryTile, Real(0));
  }

  void visit(const KeyRange& keys) {
    Arena arena = arena_;
    compute_scores(keys, arena);
    compute_weights(keys.count());
    accumulate(keys, arena);
  }

  // scores = softmax_scale * log2(e) * K Q^T [keys][queries], hidden ones -inf; new_max_ rises.
  void compute_scores(const KeyRange& keys, Arena& arena) {
    const auto rows = key_rows<Element>(problem_.k, tile_.sequence, kv_head(), keys,
                                        problem_.head_dim);
    const LeftOperand left = Precision::left(rows, Need::kByRow, arena).by_row;
    const int steps = Precision::steps(problem_.head_dim);
    const Vector scale = Lanes::broadcast(static_cast<Real>(problem_.softmax_scale * kLog2E));
    std::copy_n(max_, kQueryTile, new_max_);
    const auto store_row = [&](int key, int lane, Vector score, Vector& max) {
      Lanes::store(scores_ + key * kQueryTile + lane, score);
      max = Lanes::maximum(score, max);
    };
    if (!rule_.is_plain()) {
      compute_ruled_scores(keys, left, steps);
      return;
    }
    if (keys.full) {
      Matmul::multiply(left, keys.count(), queries_, vectors_, steps,
                       [&](int key, int vector, const auto& sum) {
                         for_block(key, vector, sum, [&](int k, int lane, Vector s, Vector& max) {
                           store_row(k, lane, Lanes::multiply(s, scale), max);
                         });
                       });
      return;
    }
    visibility_.aim_at(tile_, keys);
    Matmul::multiply(left, keys.count(), queries_, vectors_, steps,
                     [&](int key, int vector, const auto& sum) {
                       for_block(key, vector, sum, [&](int k, int lane, Vector s, Vector& max) {
                         const Vector score = Lanes::multiply(s, scale);
                         store_row(k, lane, visibility_.hide(score, k, lane), max);
                       });
                     });
  }

  void compute_ruled_scores(const KeyRange& keys, LeftOperand left, int steps) {
    rule_.aim_at(tile_, keys);
    if (!keys.full) visibility_.aim_at(tile_, keys);
    Matmul::multiply(left, keys.count(), queries_, vectors_, steps,
                     [&](int key, int vector, const auto& sum) {
                       for_block(key, vector, sum, [&](int k, int lane, Vector s, Vector& max) {
                         Vector score = rule_.score(s, k, lane);
                         if (!keys.full) score = visibility_.hide(score, k, lane);
                         Lanes::store(scores_ + k * kQueryTile + lane, score);
                         max = Lanes::maximum(score, max);
                       });
                     });
  }

  // Visits a finished block row by row with the running maximum of its lanes at hand.
  template <int kRows, int kVectors, class Visit>
  void for_block(int key, int vector, const Vector (&sum)[kRows][kVectors], Visit visit) {
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      const int lane = (vector + n) * Lanes::kWidth;
      Vector max = Lanes::load(new_max_ + lane);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) visit(key + m, lane, sum[m][n], max);
      Lanes::store(new_max_ + lane, max);
    }
  }

  // weights = 2^(scores - max), their sums, and the factor by which older sums shrink.
  void compute_weights(int count) {
    const int padded = round_up(count, Precision::kKeyGranule);
    std::fill_n(scores_ + count * kQueryTile, (padded - count) * kQueryTile,
                static_cast<Real>(-INFINITY));
    for (int row = 0; row < kQueryTile; ++row) {
      const Real reference = exponent_reference(new_max_[row]);
      shrink_[row] = max_[row] - reference;
      max_[row] = new_max_[row];
      new_max_[row] = reference;
    }
    for (int vector = 0; vector < vectors_; ++vector) {
      const int lane = vector * Lanes::kWidth;
      const Vector reference = Lanes::load(new_max_ + lane);
      const Vector shrink = Lanes::exp2(Lanes::load(shrink_ + lane));
      Lanes::store(shrink_ + lane, shrink);
      Vector even = Lanes::multiply(Lanes::load(sum_ + lane), shrink);
      Vector odd = Lanes::zero();
      for (int key = 0; key < padded; key += 2) {
        const Real* score = scores_ + key * kQueryTile + lane;
        const Vector first = Lanes::exp2(Lanes::subtract(Lanes::load(score), reference));
        const Vector second =
            Lanes::exp2(Lanes::subtract(Lanes::load(score + kQueryTile), reference));
        even = Lanes::add(even, first);
        odd = Lanes::add(odd, second);
        Precision::store_weights(weights_, key, lane, first, second);
      }
      Lanes::store(sum_ + lane, Lanes::add(even, odd));
    }
  }

  // out = out * shrink + V^T weights, transposed: [value_dim][queries].
  void accumulate(const KeyRange& keys, Arena& arena) {
    const auto rows = key_rows<Element>(problem_.v, tile_.sequence, kv_head(), keys,
                                        problem_.value_dim);
    const LeftOperand left = Precision::left(rows, Need::kByDim, arena).by_dim;
    Matmul::multiply(left, problem_.value_dim, RightOperand<Unit>{weights_, kQueryTile}, vectors_,
                     Precision::steps(keys.count()),
                     [&]<int kRows, int kVectors>(int dim, int vector,
                                                  const Vector (&sum)[kRows][kVectors]) {
#pragma GCC unroll 4
                       for (int n = 0; n < kVectors; ++n) {
                         const int lane = (vector + n) * Lanes::kWidth;
                         const Vector shrink = Lanes::load(shrink_ + lane);
#pragma GCC unroll 8
                         for (int m = 0; m < kRows; ++m) {
                           Real* out = out_ + (dim + m) * kQueryTile + lane;
                           Lanes::store(out, Lanes::multiply_add(Lanes::load(out), shrink,
                                                                 sum[m][n]));
                         }
                       }
                     });
  }

  void store() {
    const Real sink = problem_.sink_logits
                          ? static_cast<const Real*>(problem_.sink_logits)[tile_.head]
                          : static_cast<Real>(-INFINITY);
    for_each_row<Lanes>(out_, tile_.count, problem_.value_dim, scores_,
                        [&](int row, const Real* numbers) {
      const Finished<Real> finished = finish(SoftmaxState<Real>{max_[row], sum_[row]}, sink);
      const int64_t stored_row =
          tile_.sequence.q_row + (tile_.first_row + row) * tile_.sequence.row_step;
      Real& lse = *row_pointer<Real>(problem_.lse, tile_.sequence.batch, stored_row, tile_.head);
      if (problem_.merge) {
        merge_row(numbers, stored_row, finished, lse);
      } else {
        store_row(numbers, stored_row, finished, lse);
      }
    });
  }

  void store_row(const Real* numbers, int64_t stored_row, const Finished<Real>& finished,
                 Real& lse) {
    Element* out =
        row_pointer<Element>(problem_.out, tile_.sequence.batch, stored_row, tile_.head);
    const Vector factor = Lanes::broadcast(finished.out_factor);
    for_each_vector<Lanes>(problem_.value_dim, [&](int d, const auto&, const auto& store) {
      store(out + d, Lanes::multiply(Lanes::load(numbers + d), factor));
    });
    lse = finished.lse;
  }

  void merge_row(const Real* numbers, int64_t stored_row, const Finished<Real>& finished,
                 Real& lse) {
    const MergeWeights<Real> weights = merge_weights(lse, finished.lse);
    const Vector first = Lanes::broadcast(weights.first);
    const Vector second = Lanes::broadcast(weights.second * finished.out_factor);
    Real* out = row_pointer<Real>(problem_.out, tile_.sequence.batch, stored_row, tile_.head);
    // Then the row may hold anything. Not `weights.first == 0`: NaN must not get lost in a merge.
    const bool is_first = lse == static_cast<Real>(-INFINITY);
    for_each_vector<Lanes>(problem_.value_dim, [&](int d, const auto& load, const auto& store) {
      const Vector added = Lanes::multiply(Lanes::load(numbers + d), second);
      store(out + d, is_first ? added : Lanes::multiply_add(load(out + d), first, added));
    });
    lse = weights.lse;
  }

  int32_t kv_head() const { return kv_head_of(problem_, tile_.head); }

  const ForwardProblem& problem_;
  const QueryTile& tile_;
  Arena arena_;
  int vectors_;                  // lane vectors in use
  RightOperand<Unit> queries_;   // [head_dim][kQueryTile]
  Real* scores_;                 // [keys][kQueryTile], log2 units
  Unit* weights_;                // right operand, summed over keys
  Real* out_;                    // [value_dim][kQueryTile], unnormalised
  ScoreRule<Lanes> rule_;
  Visibility<Lanes> visibility_;
  alignas(64) Real max_[kQueryTile];
  alignas(64) Real new_max_[kQueryTile];
  alignas(64) Real shrink_[kQueryTile];
  alignas(64) Real sum_[kQueryTile];
};

}  // namespace longattn::inline LONGATTN_ISA
