// SPDX-License-Identifier: BSD-3-Clause
// The products of the engine in each precision against plain loops: every role that rows and
// weights play, all tails, strided rows with NaN in their gaps.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cpu/detect/detect.h"

#define LONGATTN_QUOTE(path) #path
#define LONGATTN_ISA_HEADER(row) LONGATTN_QUOTE(cpu/isa/row.h)
#include LONGATTN_ISA_HEADER(LONGATTN_ISA)
#define LONGATTN_NAME(row) LONGATTN_QUOTE(row)

namespace {

using namespace longattn;

int failures = 0;

template <class Precision>
class Check {
 public:
  using Lanes = typename Precision::Lanes;
  using Real = typename Precision::Real;
  using Element = typename Precision::Element;
  using Unit = typename Precision::Unit;
  using WeightElement = typename Precision::WeightElement;
  using Matmul = typename Precision::Matmul;

  Check(int keys, int queries, int dim) : keys_(keys), queries_(queries), dim_(dim) {
    k_ = Matrix(keys, dim, 3);
    q_ = Matrix(queries, dim, 5);
    p_.resize(keys * kQueryTile);
    for (int key = 0; key < keys; ++key) {
      for (int lane = 0; lane < kQueryTile; ++lane) {
        p_[key * kQueryTile + lane] = lane < queries ? draw() : Real(0);
      }
    }
    vectors_ = round_up(queries, Precision::kLaneGranule) / Lanes::kWidth;
  }

  void run() {
    [[maybe_unused]] const typename Matmul::Session session;
    scores();
    sum_over_keys();
    sum_over_queries();
    sum_gradients_over_keys();
  }

 private:
  struct Matrix {
    Matrix() = default;
    Matrix(int rows, int dim, int gap) : stride(dim + gap) {
      // A row more than there is, all NaN: reading a gap or past the end shows in the result.
      data.resize(static_cast<size_t>(stride) * (rows + 1));
      for (auto& element : data) narrow(std::numeric_limits<Real>::quiet_NaN(), element);
      for (int row = 0; row < rows; ++row) {
        for (int d = 0; d < dim; ++d) narrow(draw(), data[row * stride + d]);
      }
    }
    Rows<Element> rows(int count, int dim) const { return {data.data(), stride, count, dim}; }
    Real at(int row, int d) const { return widen(data[row * stride + d]); }
    std::vector<Element> data;
    ptrdiff_t stride = 0;
  };

  static Real draw() {
    static std::mt19937 random(7);
    return static_cast<Real>(std::uniform_int_distribution<int>(-8, 8)(random)) / 8;
  }

  Arena fresh_arena() {
    memory_.resize(kScratchBytes + kCacheLine);
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    return Arena(memory_.data() + (kCacheLine - address % kCacheLine));
  }

  void compare(const char* what, int row, int lane, Real got, Real wanted) {
    if (std::fabs(got - wanted) <= 1e-3) return;  // all inputs are exact, sums are small
    if (++failures < 20) {
      std::printf("FAILED: %s: keys %d queries %d dim %d, row %d lane %d: got %g, wanted %g\n",
                  what, keys_, queries_, dim_, row, lane, (double)got, (double)wanted);
    }
  }

  // Multiplies and compares every result of a wanted lane; each must be delivered once.
  template <class Wanted>
  void product(const char* what, LeftOperand left, int rows, RightOperand<Unit> right,
               int vectors, int lanes, int steps, Wanted wanted) {
    std::vector<int> deliveries(static_cast<size_t>(rows) * vectors, 0);
    Matmul::multiply(left, rows, right, vectors, steps,
                     [&]<int kRows, int kVectors>(
                         int row, int vector,
                         const typename Lanes::Vector (&sum)[kRows][kVectors]) {
                       for (int m = 0; m < kRows; ++m) {
                         for (int n = 0; n < kVectors; ++n) {
                           Real values[Lanes::kWidth];
                           Lanes::store(values, sum[m][n]);
                           ++deliveries[(row + m) * vectors + vector + n];
                           for (int i = 0; i < Lanes::kWidth; ++i) {
                             const int lane = (vector + n) * Lanes::kWidth + i;
                             if (lane >= lanes) continue;
                             compare(what, row + m, lane, values[i], wanted(row + m, lane));
                           }
                         }
                       }
                     });
    for (int delivered : deliveries) {
      if (delivered == 1 || ++failures >= 20) continue;
      std::printf("FAILED: %s: delivered %d times\n", what, delivered);
    }
  }

  // K Q^T
  void scores() {
    Arena arena = fresh_arena();
    const auto right = Precision::lanes_are_rows(q_.rows(queries_, dim_), arena);
    const auto left = Precision::left(k_.rows(keys_, dim_), Need::kByRow, arena).by_row;
    product("scores", left, keys_, right, vectors_, queries_, Precision::steps(dim_),
            [&](int key, int query) {
              Real sum = 0;
              for (int d = 0; d < dim_; ++d) sum += k_.at(key, d) * q_.at(query, d);
              return sum;
            });
  }

  // V^T P, as the forward pass stores its weights
  void sum_over_keys() {
    Arena arena = fresh_arena();
    const int padded = round_up(keys_, Precision::kKeyGranule);
    Unit* weights = arena.template take<Unit>(static_cast<size_t>(padded) * kQueryTile);
    for (int key = 0; key < padded; key += 2) {
      for (int lane = 0; lane < vectors_ * Lanes::kWidth; lane += Lanes::kWidth) {
        Precision::store_weights(weights, key, lane, weight(key, lane), weight(key + 1, lane));
      }
    }
    const auto left = Precision::left(k_.rows(keys_, dim_), Need::kByDim, arena).by_dim;
    product("sum over keys", left, dim_, RightOperand<Unit>{weights, kQueryTile}, vectors_,
            queries_, Precision::steps(keys_),
            [&](int d, int query) { return over_keys(d, query); });
  }

  // P dO and dS Q
  void sum_over_queries() {
    Arena arena = fresh_arena();
    WeightElement* weights = stored_weights(arena);
    const auto right = Precision::lanes_are_dims(q_.rows(queries_, dim_), arena);
    product("sum over queries", Precision::weights_by_key(weights), keys_, right,
            round_up(dim_, Lanes::kWidth) / Lanes::kWidth, dim_, Precision::steps(queries_),
            [&](int key, int d) {
              Real sum = 0;
              for (int query = 0; query < queries_; ++query) {
                sum += p_[key * kQueryTile + query] * q_.at(query, d);
              }
              return sum;
            });
  }

  // K^T dS, as the backward pass stores its weights
  void sum_gradients_over_keys() {
    Arena arena = fresh_arena();
    WeightElement* weights = stored_weights(arena);
    const auto right = Precision::weights_over_keys(weights, keys_, arena);
    const auto left = Precision::left(k_.rows(keys_, dim_), Need::kBoth, arena).by_dim;
    product("sum of gradients over keys", left, dim_, right, vectors_, queries_,
            Precision::steps(keys_), [&](int d, int query) { return over_keys(d, query); });
  }

  WeightElement* stored_weights(Arena& arena) {
    auto* weights = arena.template take<WeightElement>(
        (kKeyTile + Precision::kKeyGranule) * kQueryTile);
    for (int key = 0; key < keys_; ++key) {
      for (int lane = 0; lane < vectors_ * Lanes::kWidth; lane += Lanes::kWidth) {
        Precision::store_weight(weights, key, lane, weight(key, lane));
      }
    }
    return weights;
  }

  typename Lanes::Vector weight(int key, int lane) const {
    return key < keys_ ? Lanes::load(p_.data() + key * kQueryTile + lane) : Lanes::zero();
  }

  Real over_keys(int d, int query) const {
    Real sum = 0;
    for (int key = 0; key < keys_; ++key) sum += k_.at(key, d) * p_[key * kQueryTile + query];
    return sum;
  }

  int keys_, queries_, dim_, vectors_;
  Matrix k_, q_;
  std::vector<Real> p_;
  std::vector<char> memory_;
};

template <class Precision>
void check_precision() {
  if constexpr (!std::is_void_v<Precision>) {
    for (int dim : {1, 2, 3, 16, 31, 33, 64, 80, 128, 255, 256}) {
      for (int keys : {1, 2, 7, 32, 33, 127, 128}) {
        for (int queries : {1, 5, 16, 17, 63, 64}) Check<Precision>(keys, queries, dim).run();
      }
    }
  }
}

}  // namespace

int main() {
  constexpr std::string_view name = LONGATTN_NAME(LONGATTN_ISA);
  if (!cpu::processor_runs(name)) {
    std::printf("this processor cannot run %s\n", name.data());
    return 77;
  }
  check_precision<Isa::Float32>();
  check_precision<Isa::Float64>();
  check_precision<Isa::BFloat16>();
  check_precision<Isa::Float16>();
  std::printf("%d failures\n", failures);
  return failures != 0;
}
