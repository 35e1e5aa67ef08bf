// SPDX-License-Identifier: BSD-3-Clause
// Rows of a sequence, beginning at one of them, as a kernel copies or stores them.
#pragma once

#include "cuda/tiles/copy.h"
#include "semantics/sequence.h"

namespace longattn::cuda {

template <class Element>
LONGATTN_DEVICE GlobalRows<Element> query_rows(const TensorView& view, const Sequence& sequence,
                                               int32_t head, int32_t first_row, int dim) {
  const int64_t row = sequence.q_row + first_row * sequence.row_step;
  return {row_pointer<Element>(view, sequence.batch, row, head),
          view.row_stride * sequence.row_step, sequence.q_len - first_row, dim};
}

template <class Element>
LONGATTN_DEVICE GlobalRows<Element> key_rows(const TensorView& view, const Sequence& sequence,
                                             int32_t kv_head, int32_t first_key, int dim) {
  const int64_t row = sequence.k_row + first_key * sequence.row_step;
  return {row_pointer<Element>(view, sequence.batch, row, kv_head),
          view.row_stride * sequence.row_step, sequence.k_len - first_key, dim};
}

// The number of a query in the tensors (that of lse and delta).
LONGATTN_DEVICE int64_t stored_query(const Sequence& sequence, int32_t row) {
  return sequence.q_row + row * sequence.row_step;
}

}  // namespace longattn::cuda
