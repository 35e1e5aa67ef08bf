// SPDX-License-Identifier: BSD-3-Clause
// Turns the rules of longattn/masks.py, said in global positions, into bands over key rows.
#pragma once

#include <cstdint>
#include <vector>

#include "semantics/band.h"

namespace longattn::api {

// `rules`: count, then for each rule soft_left, sink_tokens, term count and (kind, a, b) a term;
// with more than one rule the rule of every head follows. `k_start`: position of key row 0.
void lower_bands(const std::vector<int64_t>& rules, int64_t k_start, int32_t q_heads,
                 BandTable& table);

}  // namespace longattn::api
