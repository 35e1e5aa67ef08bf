// SPDX-License-Identifier: BSD-3-Clause
// The operations behind the bindings, on argument packs (see longattn/native.py for their order).
#pragma once

#include <cstdint>
#include <vector>

namespace longattn::api {

using Integers = std::vector<int64_t>;

void forward(const Integers& pack, const Integers& rules, double softmax_scale);
void backward(const Integers& pack, const Integers& rules, double softmax_scale);
void row_dot(const Integers& pack);
int32_t backward_slices(const Integers& pack);

}  // namespace longattn::api
