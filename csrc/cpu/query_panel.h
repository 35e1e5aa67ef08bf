// SPDX-License-Identifier: BSD-3-Clause
// Results of a tile of queries are panels [dim][kQueryTile]: a lane is a query. Here they turn into
// rows, which lie in memory as the tensors do.
#pragma once

#include "cpu/tile_sizes.h"
#include "semantics/problem.h"

namespace longattn::inline LONGATTN_ISA {

// Calls visit(row, numbers) for the first `count` queries; numbers [dim, padded to whole vectors]
// last until the next call. `space`: for Lanes::kWidth rows.
template <class Lanes, class Visit>
void for_each_row(const typename Lanes::Scalar* panel, int count, int dim,
                  typename Lanes::Scalar* space, Visit visit) {
  constexpr int kWidth = Lanes::kWidth;
  const int padded = (dim + kWidth - 1) / kWidth * kWidth;
  for (int first = 0; first < count; first += kWidth) {
    for (int d = 0; d < dim; d += kWidth) {
      typename Lanes::Vector block[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        block[i] = d + i < dim ? Lanes::load(panel + (d + i) * kQueryTile + first) : Lanes::zero();
      }
      Lanes::transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) Lanes::store(space + i * padded + d, block[i]);
    }
    const int rows = count - first < kWidth ? count - first : kWidth;
    for (int i = 0; i < rows; ++i) visit(first + i, space + i * padded);
  }
}

// Calls visit(d, load, store) for each vector of a row of `dim` numbers.
template <class Lanes, class Visit>
void for_each_vector(int dim, Visit visit) {
  int d = 0;
  for (; d + Lanes::kWidth <= dim; d += Lanes::kWidth) {
    visit(d, [](const auto* data) { return Lanes::load(data); },
          [](auto* data, typename Lanes::Vector value) { Lanes::store(data, value); });
  }
  if (d == dim) return;
  const int rest = dim - d;
  using Vector = typename Lanes::Vector;
  visit(d, [rest](const auto* data) { return Lanes::load_first(data, rest); },
        [rest](auto* data, Vector value) { Lanes::store_first(data, value, rest); });
}

// One row of a tensor, rounded to its elements.
template <class Lanes, class Element>
void write_row(const void* numbers, int32_t dim, const TensorView& view, int64_t batch,
               int64_t row, int32_t head) {
  const auto* const from = static_cast<const typename Lanes::Scalar*>(numbers);
  Element* const to = row_pointer<Element>(view, batch, row, head);
  for_each_vector<Lanes>(dim, [&](int d, const auto& load, const auto& store) {
    store(to + d, load(from + d));
  });
}

}  // namespace longattn::inline LONGATTN_ISA
