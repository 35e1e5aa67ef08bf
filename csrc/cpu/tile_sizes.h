// SPDX-License-Identifier: BSD-3-Clause
// Tile sizes of the CPU engine: tuning, they cannot change what is visible. The scores of a tile
// (64 x 128 floats, 32 KiB) fit the first-level cache of every machine we know.
#pragma once

namespace longattn {

inline constexpr int kQueryTile = 64;
inline constexpr int kKeyTile = 128;

}  // namespace longattn
