// SPDX-License-Identifier: BSD-3-Clause
// The two epilogues of the forward kernel: store the result, or merge it with the partial of the
// same queries that the output holds.
#pragma once

#include <ptx/math.h>

#include "semantics/problem.h"
#include "semantics/softmax_state.h"

namespace longattn::cuda {

// Factors of what the output holds and of what this kernel accumulated.
struct MergedRow {
  float old_factor;
  float new_factor;
  float lse;
};

template <class Element>
struct StoreEpilogue {
  LONGATTN_DEVICE static float read_lse(const float*) { return -INFINITY; }

  LONGATTN_DEVICE static MergedRow merge(float, const Finished<float>& finished) {
    return {0.0f, finished.out_factor, finished.lse};
  }

  // Columns column and column + 1 of a row.
  LONGATTN_DEVICE static void store_pair(const TensorView& view, int64_t batch, int64_t row,
                                         int32_t head, int column, const MergedRow& merged,
                                         float first, float second) {
    Element* out = row_pointer<Element>(view, batch, row, head) + column;
    *reinterpret_cast<uint32_t*>(out) =
        ptx::pack<Element>(first * merged.new_factor, second * merged.new_factor);
  }
};

struct MergeEpilogue {
  LONGATTN_DEVICE static float read_lse(const float* lse) { return *lse; }

  LONGATTN_DEVICE static MergedRow merge(float old_lse, const Finished<float>& finished) {
    const MergeWeights<float> weights = merge_weights(old_lse, finished.lse);
    return {weights.first, weights.second * finished.out_factor, weights.lse};
  }

  LONGATTN_DEVICE static void store_pair(const TensorView& view, int64_t batch, int64_t row,
                                         int32_t head, int column, const MergedRow& merged,
                                         float first, float second) {
    float* out = row_pointer<float>(view, batch, row, head) + column;
    out[0] = merged.old_factor * out[0] + merged.new_factor * first;
    out[1] = merged.old_factor * out[1] + merged.new_factor * second;
  }
};

}  // namespace longattn::cuda
