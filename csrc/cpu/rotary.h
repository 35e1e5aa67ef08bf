// SPDX-License-Identifier: BSD-3-Clause
// The rotary pre-pass over some rows of one batch entry: cosines and sines are made once for all
// heads of queries and keys, each vector is read once, and written once a map.
#pragma once

#include "cpu/arena.h"
#include "cpu/kernels.h"
#include "cpu/rotary_row.h"
#include "cpu/rotary_table.h"

namespace longattn::inline LONGATTN_ISA {

template <class Lanes, class Element>
class Rotary {
 public:
  using Real = typename Lanes::Scalar;

  // Rows [begin, end), at most kMaxRotaryRows, of queries and of keys as far as they have them.
  static void forward(const RotaryProblem& problem, int64_t batch, int64_t begin, int64_t end,
                      void* /*bias_sums*/, void* scratch) {
    Rotary self(problem, batch, 1.0, end - begin, scratch);
    const bool shared = shares_tables(problem);
    self.with_sink(self.results_stream(false), [&](auto sink) {
      self.for_each_run(begin, end, [&](const RotarySide& side, int64_t first, int64_t stop) {
        self.make_tables(side, first, stop, shared && &side == &problem.keys);
        self.template forward_side<decltype(sink)>(side, first, stop);
      });
    });
  }

  // Adds to bias_sums [q_heads + kv_heads, head_dim] where gradients of biases are wanted.
  static void backward(const RotaryProblem& problem, int64_t batch, int64_t begin, int64_t end,
                       void* bias_sums, void* scratch) {
    Rotary self(problem, batch, -1.0, end - begin, scratch);
    const bool shared = shares_tables(problem) && is_wanted(problem.queries);
    self.with_sink(self.results_stream(true), [&](auto sink) {
      self.for_each_run(begin, end, [&](const RotarySide& side, int64_t first, int64_t stop) {
        if (!is_wanted(side)) return;
        self.make_tables(side, first, stop, shared && &side == &problem.keys);
        self.template backward_side<decltype(sink)>(side, first, stop,
                                                    self.sums_of(side, bias_sums));
      });
    });
  }

 private:
  static constexpr int64_t kLargeBytes = 1 << 24;

  Rotary(const RotaryProblem& problem, int64_t batch, double direction, int64_t rows, void* scratch)
      : problem_(problem),
        batch_(batch),
        table_(problem, direction),
        row_{problem.head_dim, problem.rotary_dim, problem.interleaved, table_.stride()} {
    Arena arena(scratch);
    tables_ = arena.take<Real>(table_.numbers() * problem.map_count * rows);
    vector_ = arena.take<Real>(problem.head_dim);
    gradient_ = arena.take<Real>(problem.head_dim);
    sum_ = arena.take<Real>(problem.head_dim);
  }

  Real* table(int64_t row, int map) const {
    return tables_ + ((row - begin_) * problem_.map_count + map) * table_.numbers();
  }

  // `keep`: the tables of the other side are right.
  void make_tables(const RotarySide& side, int64_t begin, int64_t end, bool keep) {
    begin_ = begin;
    for (int64_t row = begin; row < end; ++row) {
      const ExactPosition position = position_at(side.positions, batch_, row);
      scales_[row - begin] = static_cast<Real>(row_scale(side.scale, position));
      for (int m = 0; m < problem_.map_count && !keep; ++m) {
        table_.fill(mapped(side.maps[m], position), side.growth_sign, table(row, m));
      }
    }
  }

  static bool heads_are_neighbours(const TensorView& view) {
    return view.head_stride <= view.row_stride;
  }

  // body(row, head), in the order in which the vectors of `view` lie in memory.
  template <class Body>
  void for_each_vector_of(const RotarySide& side, const TensorView& view, int64_t begin,
                          int64_t end, Body body) const {
    if (heads_are_neighbours(view)) {
      for (int64_t row = begin; row < end; ++row) {
        for (int32_t head = 0; head < side.heads; ++head) body(row, head);
      }
    } else {
      for (int32_t head = 0; head < side.heads; ++head) {
        for (int64_t row = begin; row < end; ++row) body(row, head);
      }
    }
  }

  Real* sums_of(const RotarySide& side, void* bias_sums) const {
    if (side.bias_gradient == nullptr) return nullptr;
    const int32_t heads_before = &side == &problem_.keys ? problem_.queries.heads : 0;
    return static_cast<Real*>(bias_sums) + int64_t{heads_before} * problem_.head_dim;
  }

  // body(side, first, stop) for the rows whose tables are made at once: where the heads of a row
  // are neighbours a row, so that its table is made while the one before is on its way to memory.
  template <class Body>
  void for_each_run(int64_t begin, int64_t end, Body body) const {
    const auto in_rows = [](const RotarySide& side) {
      return heads_are_neighbours(side.input.data ? side.input : side.gradient) &&
             side.bias_gradient == nullptr;
    };
    const bool one = in_rows(problem_.queries) && in_rows(problem_.keys);
    const int64_t rows = one ? 1 : end - begin;
    for (int64_t first = begin; first < end; first += rows) {
      for (const RotarySide* side : {&problem_.queries, &problem_.keys}) {
        const int64_t stop = std::min(first + rows, side->rows);
        if (first < stop) body(*side, first, stop);
      }
    }
  }

  // body(sink), a sink of which only the type matters.
  template <class Body>
  void with_sink(bool streams, Body body) const {
    if constexpr (Lanes::kStreams) {
      if (streams) {
        body(StreamTo<Element>{nullptr});
        return Lanes::end_streams();
      }
    }
    body(StoreTo<Element>{nullptr});
  }

  // Large results leave the caches before they are read; written past them, their lines are not
  // read first. Only whole lines: two vectors of 16-bit numbers.
  bool results_stream(bool backward) const {
    const auto whole = [](int64_t numbers) { return numbers % (2 * Lanes::kWidth) == 0; };
    const auto fits = [&](const TensorView& view) {
      return whole(view.head_stride) && whole(view.row_stride) && whole(view.batch_stride) &&
             reinterpret_cast<uintptr_t>(view.data) % kCacheLine == 0;
    };
    int64_t numbers = 0;
    for (const RotarySide* side : {&problem_.queries, &problem_.keys}) {
      numbers += problem_.batch * side->rows * side->heads * problem_.head_dim;
      for (int m = 0; m < (backward ? 1 : problem_.map_count); ++m) {
        const TensorView& result = backward ? side->gradient : side->rotated[m];
        if (!fits(result) || (result.data == side->input.data && result.data)) return false;
      }
    }
    const int part = problem_.interleaved ? problem_.rotary_dim : problem_.rotary_dim / 2;
    return numbers * static_cast<int64_t>(sizeof(Element)) >= kLargeBytes && whole(part) &&
           whole(problem_.head_dim);
  }

  // Nothing but the rotation of one map: from one tensor to the other.
  template <class Sink>
  [[gnu::flatten]] void rotate_into(const RotarySide& side, int map, const TensorView& from,
                                    const TensorView& to, int64_t begin, int64_t end) const {
    const auto run = [&](int64_t row, int32_t head, const Series& series) {
      row_.rotate(row_pointer<Element>(from, batch_, row, head), scales_ + (row - begin_),
                  table(row, map), Sink{row_pointer<Element>(to, batch_, row, head)}, series);
    };
    if (heads_are_neighbours(from)) {
      const Series heads{side.heads, from.head_stride, to.head_stride, 0, 0};
      for (int64_t row = begin; row < end; ++row) run(row, 0, heads);
    } else {
      const auto table_step = static_cast<int64_t>(table_.numbers()) * problem_.map_count;
      const Series rows{end - begin, from.row_stride, to.row_stride, table_step, 1};
      for (int32_t head = 0; head < side.heads; ++head) run(begin, head, rows);
    }
  }

  const Real* bias_of(const RotarySide& side, int32_t head) const {
    if (side.bias == nullptr) return nullptr;
    return static_cast<const Real*>(side.bias) + static_cast<int64_t>(head) * problem_.head_dim;
  }

  // Flat, like the other loops over vectors: what does not change from one to the next stays in
  // registers.
  template <class Sink>
  [[gnu::flatten]] void forward_side(const RotarySide& side, int64_t begin, int64_t end) const {
    if (side.bias == nullptr && !side.normalized) {
      for (int m = 0; m < problem_.map_count; ++m) {
        rotate_into<Sink>(side, m, side.input, side.rotated[m], begin, end);
      }
      return;
    }
    for_each_vector_of(side, side.input, begin, end, [&](int64_t row, int32_t head) {
      const Element* x = row_pointer<Element>(side.input, batch_, row, head);
      const Real squares = row_.add_bias(x, bias_of(side, head), vector_);
      Real scale = scales_[row - begin_];
      if (side.normalized) {
        scale /= std::max(std::sqrt(squares), static_cast<Real>(kSmallestNorm));
      }
      for (int m = 0; m < problem_.map_count; ++m) {
        row_.rotate(vector_, &scale, table(row, m),
                    Sink{row_pointer<Element>(side.rotated[m], batch_, row, head)});
      }
    });
  }

  template <class Sink>
  Sink result(const RotarySide& side, int64_t row, int32_t head) const {
    return {row_pointer<Element>(side.gradient, batch_, row, head)};
  }

  template <class Sink>
  [[gnu::flatten]] void backward_side(const RotarySide& side, int64_t begin, int64_t end,
                                      Real* sums) const {
    const auto is_given = [](const TensorView& view) { return view.data != nullptr; };
    const TensorView* const stop = side.rotated + problem_.map_count;
    const TensorView* const first = std::find_if(side.rotated, stop, is_given);
    const bool one = std::count_if(side.rotated, stop, is_given) == 1;
    if (side.bias_gradient == nullptr && one && !side.normalized) {
      const int map = static_cast<int>(first - side.rotated);
      return rotate_into<Sink>(side, map, *first, side.gradient, begin, end);
    }
    if (side.bias_gradient == nullptr) {
      for_each_vector_of(side, *first, begin, end, [&](int64_t row, int32_t head) {
        backward_vector(side, row, head);
        row_.copy(gradient_, result<Sink>(side, row, head));
      });
      return;
    }
    // Sums of few rows are added to those of many: less is lost than in one long sum.
    for (int32_t head = 0; head < side.heads; ++head) {
      std::fill_n(sum_, problem_.head_dim, Real(0));
      for (int64_t row = begin; row < end; ++row) {
        backward_vector(side, row, head);
        row_.copy(gradient_, AddTo<Real>{sum_});
        if (side.gradient.data != nullptr) row_.copy(gradient_, result<Sink>(side, row, head));
      }
      row_.copy(sum_, AddTo<Real>{sums + int64_t{head} * problem_.head_dim});
    }
  }

  // The gradient of x + bias, in gradient_.
  void backward_vector(const RotarySide& side, int64_t row, int32_t head) const {
    bool is_first = true;
    for (int m = 0; m < problem_.map_count; ++m) {
      if (side.rotated[m].data == nullptr) continue;
      const Element* given = row_pointer<Element>(side.rotated[m], batch_, row, head);
      const Real* scale = scales_ + (row - begin_);
      if (is_first) {
        row_.rotate(given, scale, table(row, m), StoreTo<Real>{gradient_});
      } else {
        row_.rotate(given, scale, table(row, m), AddTo<Real>{gradient_});
      }
      is_first = false;
    }
    if (!side.normalized) return;
    const Element* x = row_pointer<Element>(side.input, batch_, row, head);
    const Real squares = row_.add_bias(x, bias_of(side, head), vector_);
    row_.differentiate_norm(vector_, squares, gradient_);
  }

  const RotaryProblem& problem_;
  int64_t batch_;
  RotaryTable<Lanes> table_;
  RotaryRow<Lanes> row_;
  int64_t begin_ = 0;
  Real scales_[kMaxRotaryRows];
  Real* tables_;  // [row][map][cosines | sines]
  Real* vector_;  // [head_dim], like the next two
  Real* gradient_;
  Real* sum_;
};

}  // namespace longattn::inline LONGATTN_ISA
