// SPDX-License-Identifier: BSD-3-Clause
// Element types of q, k and v, by the numbers that longattn/native.py uses.
#pragma once

#include <cstdint>

namespace longattn {

enum class ElementType : int32_t { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

inline constexpr int kElementTypes = 4;

}  // namespace longattn
