// SPDX-License-Identifier: BSD-3-Clause
// The key tiles of a tile of queries as one list, so that every step of a kernel walks it alike.
#pragma once

#include "semantics/tiles.h"

namespace longattn::cuda {

struct TileOfKeys {
  int32_t first_key;
  bool full;
};

class KeyTileList {
 public:
  LONGATTN_HOST_DEVICE KeyTileList(const KeyTiles& tiles, int32_t size)
      : tiles_(tiles), size_(size) {}

  LONGATTN_HOST_DEVICE int32_t count() const { return tile_count(tiles_); }

  LONGATTN_HOST_DEVICE TileOfKeys operator[](int32_t index) const {
    const int32_t sinks = tile_count(tiles_.sinks);
    const bool in_sinks = index < sinks;
    const int32_t tile =
        in_sinks ? tiles_.sinks.begin + index : tiles_.band.begin + index - sinks;
    const bool full = in_sinks ? is_full(tiles_.sinks, tile) : is_full(tiles_.band, tile);
    return {tile * size_, full};
  }

 private:
  KeyTiles tiles_;
  int32_t size_;
};

}  // namespace longattn::cuda
