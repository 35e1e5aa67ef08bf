// SPDX-License-Identifier: BSD-3-Clause
// ldmatrix and mma.sync, executed once for the warp by the lane that arrives last.
#pragma once

#include <cstdint>

#include "machine/cuda_types.h"
#include "machine/where.h"

namespace simt {

enum class Transposed : bool { kNo, kYes };

void load_matrices(uint32_t (&registers)[4], uint32_t address, Transposed transposed, Where where);

// For __nv_bfloat16 and __half.
template <class Element>
void multiply_matrices(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                       Where where);

}  // namespace simt
