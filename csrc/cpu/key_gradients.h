// SPDX-License-Identifier: BSD-3-Clause
// Where dk and dv of a row of keys lie: in the tensors, or in memory that holds some rows only.
#pragma once

#include <cstdint>

#include "semantics/problem.h"

namespace longattn {

// Rows of the tensors [begin, end).
struct KeyRows {
  int64_t begin;
  int64_t end;

  int64_t size() const { return end - begin; }
};

// Those of sinks lie before those of the band, with a gap between them. `sinks` may be empty.
struct SeenKeys {
  KeyRows sinks;
  KeyRows band;

  int64_t size() const { return sinks.size() + band.size(); }

  bool holds(int64_t row) const {
    return (row >= sinks.begin && row < sinks.end) || (row >= band.begin && row < band.end);
  }

  // Of a row among all of them.
  int64_t place(int64_t row) const {
    return row < band.begin ? row - sinks.begin : row - band.begin + sinks.size();
  }
};

// dk and dv, [batch, rows, heads, dim], of these keys.
struct KeyGradients {
  TensorView dk;
  TensorView dv;
  SeenKeys keys;
};

}  // namespace longattn
