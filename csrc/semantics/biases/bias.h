// SPDX-License-Identifier: BSD-3-Clause
// What is added to scores: a function of the head and of the distance, which is the position of the
// query minus that of the key. One formula a file; every published bias is one of these.
#pragma once

#include <cstdint>

#include "semantics/biases/linear.h"
#include "semantics/biases/table.h"

namespace longattn {

enum class BiasKind : int32_t { kNone = 0, kLinear = 1, kTable = 2 };  // as in biases.py

struct Bias {
  BiasKind kind;
  const void* values;  // accumulator dtype; linear: [heads] slopes; table: [heads, size]
  int64_t size;        // entries of a head
  int64_t origin;      // table: the entry of distance 0
  bool symmetric;      // table: by |distance|
};

inline namespace LONGATTN_ISA {

template <class Real>
LONGATTN_HOST_DEVICE Real bias_at(const Bias& bias, int32_t head, int64_t distance) {
  if (bias.kind == BiasKind::kNone) return Real(0);
  const Real* values = static_cast<const Real*>(bias.values) + head * bias.size;
  if (bias.kind == BiasKind::kLinear) return linear_bias(values[0], distance);
  return values[table_index(distance, bias.size, bias.origin, bias.symmetric)];
}

}  // namespace LONGATTN_ISA
}  // namespace longattn
