// SPDX-License-Identifier: BSD-3-Clause
// Asks for large pages for memory that is about to be written for the first time.
#pragma once

#include <cstdint>

namespace longattn::cpu {

// A hint, of no consequence where there are none.
void advise_huge_pages(void* data, int64_t bytes);

}  // namespace longattn::cpu
