// SPDX-License-Identifier: BSD-3-Clause
// Copies rows of a tensor to a shared tile, asynchronously, 16 bytes a thread and step. Rows and
// dims beyond the tensor become zeros without being read: nothing of a neighbour can leak.
#pragma once

#include <cstdint>

#include <ptx/cp_async.h>

#include "cuda/tiles/shared_tile.h"

namespace longattn::cuda {

// Rows as they lie in global memory.
template <class Element>
struct GlobalRows {
  const Element* data;
  int64_t stride;  // elements between rows
  int count;
  int dim;
  int begin = 0;  // rows before it do not exist

  LONGATTN_DEVICE GlobalRows from(int row) const {
    return {data + row * stride, stride, count - row, dim};
  }
};

template <int kThreads, class Tile, class Element>
LONGATTN_DEVICE void copy_rows_async(const Tile& tile, const GlobalRows<Element>& rows,
                                     int thread) {
  // A thread keeps its chunk and steps through the rows: one pointer and one shared-memory address
  // are all that it holds. The step is a multiple of 8 rows, which leaves the swizzle alone.
  constexpr int kStep = kThreads / Tile::kChunks;
  static_assert(kThreads % Tile::kChunks == 0 && kStep % 8 == 0 && Tile::kRows % kStep == 0);
  const int first_row = thread / Tile::kChunks, chunk = thread % Tile::kChunks;
  const int valid_rows = chunk * kChunkElements < rows.dim ? rows.count : 0;
  const Element* source = rows.data + first_row * rows.stride + chunk * kChunkElements;
  const uint32_t target = tile.address(first_row, chunk);
#pragma unroll
  for (int row = 0; row < Tile::kRows; row += kStep) {
    const bool valid = first_row + row < valid_rows && first_row + row >= rows.begin;
    ptx::cp_async_16(target + row * Tile::kChunks * kChunkBytes, source, valid);
    source += kStep * rows.stride;
  }
}

}  // namespace longattn::cuda
