// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/detect/detect.h"

namespace longattn::cpu {

bool processor_runs(std::string_view isa) { return isa == "baseline"; }

}  // namespace longattn::cpu
