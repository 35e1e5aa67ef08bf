// SPDX-License-Identifier: BSD-3-Clause
// Tensors that are heap blocks of their exact size, so that AddressSanitizer sees each step beside.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "machine/cuda_types.h"
#include "semantics/problem.h"

namespace sanitized {

// [batch, rows, heads, dim], contiguous.
template <class Element>
struct Tensor {
  int64_t rows, heads, dim;
  std::vector<Element> numbers;

  Tensor(int64_t batch, int64_t rows, int64_t heads, int64_t dim)
      : rows(rows), heads(heads), dim(dim), numbers(batch * rows * heads * dim, Element(0.0f)) {}

  Element& at(int64_t batch, int64_t row, int64_t head, int64_t column) {
    return numbers[((batch * rows + row) * heads + head) * dim + column];
  }

  longattn::TensorView view() {
    return {numbers.data(), rows * heads * dim, heads * dim, dim};
  }

  void randomize(std::mt19937& random) {
    for (Element& number : numbers) {
      number = Element(static_cast<float>(random() % 4096) / 1024.0f - 2.0f);
    }
  }
};

// [batch, heads, rows], contiguous.
struct Rows {
  int64_t heads, rows;
  std::vector<float> numbers;

  Rows(int64_t batch, int64_t heads, int64_t rows)
      : heads(heads), rows(rows), numbers(batch * heads * rows, 0.0f) {}

  float& at(int64_t batch, int64_t head, int64_t row) {
    return numbers[(batch * heads + head) * rows + row];
  }

  longattn::RowView view() { return {numbers.data(), heads * rows, rows}; }
};

}  // namespace sanitized
