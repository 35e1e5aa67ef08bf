// SPDX-License-Identifier: BSD-3-Clause
// A tile of rows in shared memory, swizzled: the 16-byte chunks of a row are permuted by the row's
// number, so that the eight rows that one ldmatrix phase reads lie in different banks.
#pragma once

#include <ptx/device.h>

namespace longattn::cuda {

inline constexpr int kChunkBytes = 16;
inline constexpr int kChunkElements = 8;  // of 16 bits

template <int kTileRows, int kTileDim>
struct SharedTile {
  static constexpr int kRows = kTileRows;
  static constexpr int kDim = kTileDim;
  static constexpr int kChunks = kDim / kChunkElements;  // of a row
  static_assert(kChunks % 8 == 0, "the swizzle permutes eight chunks: dim is a multiple of 64");

  alignas(128) unsigned char bytes[kRows * kDim * 2];  // [rows][dim] of 16 bits

  // Shared-memory address of chunk `chunk` of row `row`.
  LONGATTN_DEVICE uint32_t address(int row, int chunk) const {
    return ptx::shared_address(bytes) +
           static_cast<uint32_t>((row * kChunks + (chunk ^ (row & 7))) * kChunkBytes);
  }

  // Of chunk `chunk + pairs * 2` of the row whose chunk `chunk`, 0 or 1, has the address `first`;
  // of the same chunk `rows` rows further, a multiple of 8. All but one exclusive or is known when
  // compiled: rows are multiples of 128 bytes, and the swizzle touches the three bits below.
  LONGATTN_DEVICE static uint32_t address_from(uint32_t first, int rows, int pairs) {
    constexpr uint32_t kSwizzled = 8 * kChunkBytes;
    const uint32_t bytes = static_cast<uint32_t>(pairs * 2 * kChunkBytes);
    return (first ^ bytes % kSwizzled) + bytes / kSwizzled * kSwizzled +
           static_cast<uint32_t>(rows * kChunks * kChunkBytes);
  }
};

}  // namespace longattn::cuda
