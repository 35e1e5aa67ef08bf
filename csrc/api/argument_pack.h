// SPDX-License-Identifier: BSD-3-Clause
// Reads the flat argument pack that longattn/native.py writes: integers in a fixed order, so that
// no torch header is needed and one build serves every torch.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "semantics/element_type.h"
#include "semantics/problem.h"

namespace longattn::api {

class ArgumentPack {
 public:
  explicit ArgumentPack(const std::vector<int64_t>& values) : values_(values) {}

  int64_t integer() {
    if (next_ >= values_.size()) throw std::invalid_argument("the argument pack is too short");
    return values_[next_++];
  }

  int32_t small() { return static_cast<int32_t>(integer()); }

  template <class T>
  T* pointer() {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(integer()));
  }

  // Braced initialisers are evaluated from left to right: the order of the pack.
  TensorView tensor() { return {pointer<void>(), integer(), integer(), integer()}; }

  RowView row() { return {pointer<void>(), integer(), integer()}; }

  ElementType element_type() { return static_cast<ElementType>(small()); }

  SequenceLayout layout() {
    return {static_cast<Split>(small()),
            integer(),
            integer(),
            integer(),
            integer(),
            integer(),
            pointer<const int32_t>(),
            pointer<const int32_t>(),
            integer(),
            integer(),
            static_cast<HeadOffset>(small())};
  }

  Bias bias() {
    return {static_cast<BiasKind>(small()), pointer<const void>(), integer(), integer(),
            integer() != 0};
  }

  BiasGradient bias_gradient() { return {pointer<void>(), integer(), integer(), integer()}; }

  void expect_end() const {
    if (next_ != values_.size()) throw std::invalid_argument("the argument pack is too long");
  }

 private:
  const std::vector<int64_t>& values_;
  size_t next_ = 0;
};

}  // namespace longattn::api
