// SPDX-License-Identifier: BSD-3-Clause
#include "machine/block.h"

#include "machine/cuda_types.h"
#include "machine/report.h"

uint3 threadIdx{};
uint3 blockIdx{};
dim3 blockDim;
dim3 gridDim;

namespace simt {

void fail_outside_of_kernels() { fail("a wrapper of ptx/ was called; kernels alone may do that."); }

}  // namespace simt
