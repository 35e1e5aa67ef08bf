// SPDX-License-Identifier: BSD-3-Clause
// Which planted bug is alive. Only the copies of the kernels that tests/test_mutations.py makes
// ask; the kernels themselves hold no bug to choose.
#pragma once

namespace simt {

inline int planted_bug = 0;  // 0: none

inline bool planted(int bug) { return bug == planted_bug; }

}  // namespace simt
