// SPDX-License-Identifier: BSD-3-Clause
// Coefficients of 2^f for |f| <= 1/2, fitted for the least relative error (1.2e-7 in float).
#pragma once

namespace longattn {

inline constexpr float kExp2Coefficients[] = {1.0f,          0.693146944f,    0.240221202f,
                                              0.0555071309f, 0.00967554096f, 0.00132764713f};

// Below this 2^x is flushed to zero.
inline constexpr float kExp2Smallest = -126.0f;

}  // namespace longattn
