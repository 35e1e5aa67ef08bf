// SPDX-License-Identifier: BSD-3-Clause
// The tile unit of Intel processors with AMX-BF16: sums in tiles 0 to 3, operands in 4 to 7.
// https://www.intel.com/content/www/us/en/docs/intrinsics-guide/index.html#amxtechs=AMX
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

struct AmxTileUnit {
  // Tiles are configured while a session lives; each thread needs its own.
  class Session {
   public:
    Session() {
      alignas(64) Configuration configuration{};
      configuration.palette = 1;
      for (int tile = 0; tile < 8; ++tile) {
        configuration.row_bytes[tile] = 64;
        configuration.rows[tile] = 16;
      }
      _tile_loadconfig(&configuration);
    }
    ~Session() { _tile_release(); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };

  static void clear() {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  // sum[32][32] += left[32 rows][16 pairs] right[16 pairs][32 lanes]
  static void multiply_add(const char* left, ptrdiff_t left_bytes, const uint32_t* right,
                           ptrdiff_t right_bytes) {
    _tile_loadd(4, left, left_bytes);
    _tile_loadd(6, right, right_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + 16, right_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left + 16 * left_bytes, left_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }

  static void store(float* block) {  // [32][32]
    _tile_stored(0, block, 128);
    _tile_stored(1, block + 16, 128);
    _tile_stored(2, block + 16 * 32, 128);
    _tile_stored(3, block + 16 * 32 + 16, 128);
  }

 private:
  struct Configuration {  // the memory layout that ldtilecfg reads
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

}  // namespace longattn::inline LONGATTN_ISA
