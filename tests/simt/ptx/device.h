// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/device.h.
#pragma once

#include <concepts>
#include <cstdint>

#include "machine/cuda_types.h"
#include "machine/shared_memory.h"
#include "machine/where.h"

#define LONGATTN_DEVICE inline

namespace longattn::ptx {

template <class Element>
concept HalfPrecision = std::same_as<Element, __nv_bfloat16> || std::same_as<Element, __half>;

LONGATTN_DEVICE uint32_t shared_address(const void* smem,
                                        simt::Where where = simt::Where::current()) {
  return simt::shared_address(smem, where);
}

template <class Plan>
LONGATTN_DEVICE Plan& shared_memory(simt::Where where = simt::Where::current()) {
  static_assert(alignof(Plan) <= 1024, "dynamic shared memory is aligned to 1024 bytes");
  return *static_cast<Plan*>(simt::shared_memory(sizeof(Plan), where));
}

}  // namespace longattn::ptx
