// SPDX-License-Identifier: BSD-3-Clause
// The emulated twin of csrc/cuda/ptx/memory.h.
#pragma once

#include <ptx/device.h>

#include "machine/global_memory.h"
#include "machine/shared_memory.h"

namespace longattn::ptx {

LONGATTN_DEVICE uint4 load_global_16(const void* global,
                                     simt::Where where = simt::Where::current()) {
  return simt::load_global<uint4>(global, where);
}

LONGATTN_DEVICE void store_global_16(void* global, uint4 value,
                                     simt::Where where = simt::Where::current()) {
  simt::store_global(global, value, where);
}

LONGATTN_DEVICE float load_global_float(const float* global,
                                        simt::Where where = simt::Where::current()) {
  return simt::load_global<float>(global, where);
}

LONGATTN_DEVICE float2 load_global_float2(const float* global,
                                          simt::Where where = simt::Where::current()) {
  return simt::load_global<float2>(global, where);
}

LONGATTN_DEVICE void store_global_4(void* global, uint32_t value,
                                    simt::Where where = simt::Where::current()) {
  simt::store_global(global, value, where);
}

LONGATTN_DEVICE void store_global_float(float* global, float value,
                                        simt::Where where = simt::Where::current()) {
  simt::store_global(global, value, where);
}

LONGATTN_DEVICE void store_global_float2(float* global, float2 value,
                                         simt::Where where = simt::Where::current()) {
  simt::store_global(global, value, where);
}

LONGATTN_DEVICE void store_shared_4(uint32_t smem, uint32_t value,
                                    simt::Where where = simt::Where::current()) {
  simt::store_shared(smem, value, where);
}

LONGATTN_DEVICE uint4 load_shared_16(uint32_t smem, simt::Where where = simt::Where::current()) {
  return simt::load_shared<uint4>(smem, where);
}

LONGATTN_DEVICE void store_shared_16(uint32_t smem, uint4 value,
                                     simt::Where where = simt::Where::current()) {
  simt::store_shared(smem, value, where);
}

LONGATTN_DEVICE float load_shared_float(uint32_t smem, simt::Where where = simt::Where::current()) {
  return simt::load_shared<float>(smem, where);
}

LONGATTN_DEVICE void store_shared_float(uint32_t smem, float value,
                                        simt::Where where = simt::Where::current()) {
  simt::store_shared(smem, value, where);
}

}  // namespace longattn::ptx
