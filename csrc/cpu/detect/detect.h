// SPDX-License-Identifier: BSD-3-Clause
// What the processor (and the operating system) can run. One implementation a processor family.
#pragma once

#include <string_view>

namespace longattn::cpu {

// Can code of this row of the ISA list run here?
bool processor_runs(std::string_view isa);

}  // namespace longattn::cpu
