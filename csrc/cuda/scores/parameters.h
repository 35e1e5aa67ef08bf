// SPDX-License-Identifier: BSD-3-Clause
// What kernels need to know to make scores of products.
#pragma once

namespace longattn::cuda {

struct ScoreParameters {
  float scale;  // of products of q and k, into log2 units
};

}  // namespace longattn::cuda
