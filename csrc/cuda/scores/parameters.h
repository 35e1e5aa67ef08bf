// SPDX-License-Identifier: BSD-3-Clause
// What kernels need to know to make scores of products, besides the bias.
#pragma once

namespace longattn::cuda {

struct ScoreParameters {
  float scale;  // of products of q and k: into log2 units, or into the exponent of the cap's tanh
  float cap;    // log2 units; 0: scores are not capped
};

}  // namespace longattn::cuda
