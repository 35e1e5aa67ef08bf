// SPDX-License-Identifier: BSD-3-Clause
// A half-open range of key rows, narrowed by one formula after the other.
#pragma once

#include "semantics/integers.h"

namespace longattn {

struct KeyBounds {
  int64_t begin;
  int64_t end;
};

}  // namespace longattn
