// SPDX-License-Identifier: BSD-3-Clause
// Chooses the instruction set: once, the best that the processor and this build share, or the one
// that the environment variable LONGATTN_ISA names.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace longattn::cpu {

// Throws std::invalid_argument if LONGATTN_ISA names a row that cannot run here.
const Kernels& kernels_for(ElementType type);

std::string chosen_isa();
std::vector<std::string> compiled_isas();
std::vector<std::string> supported_isas();  // compiled, and this processor can run them

}  // namespace longattn::cpu
