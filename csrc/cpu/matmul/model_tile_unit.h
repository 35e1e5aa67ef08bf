// SPDX-License-Identifier: BSD-3-Clause
// The tile unit in plain loops: the same reads and writes, so that every AVX-512 machine can test
// the code around it. Unconfigured tiles, as on the hardware, are an error.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cpu/simd/elements.h"

namespace longattn::inline LONGATTN_ISA {

struct ModelTileUnit {
  class Session {
   public:
    Session() { tiles().configured = true; }
    ~Session() { tiles().configured = false; }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

  static void clear() {
    if (!tiles().configured) std::abort();  // the hardware raises SIGILL here
    std::memset(tiles().sum, 0, sizeof(tiles().sum));
  }

  static void multiply_add(const char* left, ptrdiff_t left_bytes, const uint32_t* right,
                           ptrdiff_t right_bytes) {
    for (int row = 0; row < 32; ++row) {
      for (int pair = 0; pair < 16; ++pair) {
        const uint32_t a = unit_at(left + row * left_bytes + pair * 4);
        const char* lanes = reinterpret_cast<const char*>(right) + pair * right_bytes;
        for (int lane = 0; lane < 32; ++lane) {
          const uint32_t b = unit_at(lanes + lane * 4);
          tiles().sum[row][lane] += low(a) * low(b) + high(a) * high(b);
        }
      }
    }
  }

  static void store(float* block) { std::memcpy(block, tiles().sum, sizeof(tiles().sum)); }

 private:
  struct Tiles {
    bool configured = false;
    float sum[32][32] = {};
  };

  static Tiles& tiles() {
    static thread_local Tiles state;
    return state;
  }

  static uint32_t unit_at(const char* data) {
    uint32_t unit;
    std::memcpy(&unit, data, sizeof(unit));
    return unit;
  }
  static float low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
  static float high(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }
};

}  // namespace longattn::inline LONGATTN_ISA
