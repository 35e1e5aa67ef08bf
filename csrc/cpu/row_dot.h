// SPDX-License-Identifier: BSD-3-Clause
// delta = rowsum(dout * out) - dlse: all that the backward pass needs of out and of lse's gradient.
#pragma once

#include "semantics/problem.h"

namespace longattn::inline LONGATTN_ISA {

template <class Lanes, class First, class Second>
typename Lanes::Scalar dot(const First* first, const Second* second, int count) {
  typename Lanes::Vector sum = Lanes::zero();
  int i = 0;
  for (; i + Lanes::kWidth <= count; i += Lanes::kWidth) {
    sum = Lanes::multiply_add(Lanes::load(first + i), Lanes::load(second + i), sum);
  }
  if (i < count) {
    sum = Lanes::multiply_add(Lanes::load_first(first + i, count - i),
                              Lanes::load_first(second + i, count - i), sum);
  }
  return Lanes::sum(sum);
}

// Rows [begin, end) of one head.
template <class Lanes, class Element>
void row_dot(const RowDotProblem& problem, int64_t batch, int32_t head, int64_t begin,
             int64_t end) {
  using Real = typename Lanes::Scalar;
  for (int64_t row = begin; row < end; ++row) {
    const Element* dout = row_pointer<Element>(problem.dout, batch, row, head);
    const Real product =
        problem.out_is_accumulator
            ? dot<Lanes>(dout, row_pointer<Real>(problem.out, batch, row, head), problem.value_dim)
            : dot<Lanes>(dout, row_pointer<Element>(problem.out, batch, row, head),
                         problem.value_dim);
    const Real dlse =
        problem.dlse.data ? *row_pointer<Real>(problem.dlse, batch, row, head) : Real(0);
    *row_pointer<Real>(problem.delta, batch, row, head) = product - dlse;
  }
}

}  // namespace longattn::inline LONGATTN_ISA
