// SPDX-License-Identifier: BSD-3-Clause
// Integer division that rounds towards minus infinity, and clamping.
#pragma once

#include <cstdint>

#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

LONGATTN_HOST_DEVICE int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

LONGATTN_HOST_DEVICE int64_t ceil_divide(int64_t a, int64_t b) { return -floor_divide(-a, b); }

LONGATTN_HOST_DEVICE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

LONGATTN_HOST_DEVICE int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

LONGATTN_HOST_DEVICE int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return smaller(larger(value, low), high);
}

}  // namespace longattn::inline LONGATTN_ISA
