// SPDX-License-Identifier: BSD-3-Clause
// The two epilogues of the forward kernel: store the result, or merge it with the partial of the
// same queries that the output holds.
#pragma once

#include <ptx/math.h>

#include "cuda/tiles/store.h"
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
  using Out = Element;

  LONGATTN_DEVICE static float read_lse(const float*) { return -INFINITY; }

  LONGATTN_DEVICE static MergedRow merge(float, const Finished<float>& finished) {
    return {0.0f, finished.out_factor, finished.lse};
  }

  template <int kColumns>
  LONGATTN_DEVICE static void store_row(Element* row, int width, const RegisterTile<kColumns>& out,
                                        int half, const MergedRow& merged, int lane) {
#pragma unroll
    for (int block = 0; block < out.kBlocks; ++block) {
      const int column = column_of_lane(lane, block);
      if (column >= width) continue;
      const float(&values)[4] = out.values[block];
      ptx::store_global_4(row + column,
                          ptx::pack<Element>(values[2 * half] * merged.new_factor,
                                             values[2 * half + 1] * merged.new_factor));
    }
  }
};

struct MergeEpilogue {
  using Out = float;

  LONGATTN_DEVICE static float read_lse(const float* lse) { return ptx::load_global_float(lse); }

  LONGATTN_DEVICE static MergedRow merge(float old_lse, const Finished<float>& finished) {
    const MergeWeights<float> weights = merge_weights(old_lse, finished.lse);
    return {weights.first, weights.second * finished.out_factor, weights.lse};
  }

  template <int kColumns>
  LONGATTN_DEVICE static void store_row(float* row, int width, const RegisterTile<kColumns>& out,
                                        int half, const MergedRow& merged, int lane) {
    merge_half(row, width, out, half, merged.old_factor, merged.new_factor, lane);
  }
};

}  // namespace longattn::cuda
