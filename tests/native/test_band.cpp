// SPDX-License-Identifier: BSD-3-Clause
// Brute force: over thousands of small problems the tile intervals cover exactly the visible
// pairs, full tiles are full, bounds are monotone and no visit is wasted.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "random_bands.h"
#include "semantics/tiles.h"

namespace {

using namespace random_bands;

void check_rows(const HeadBand& band, const Sequence& sequence) {
  RowBounds previous{0, 0, 0, 0};
  for (int row = 0; row < sequence.q_len; ++row) {
    const RowBounds bounds = bounds_at(band, sequence, row);
    for (int key = 0; key < sequence.k_len; ++key) {
      if (sees(bounds, key) != shows(band, sequence.diagonal + row, key)) {
        fail("row bounds differ from the definition", band, sequence);
      }
    }
    if (bounds.floor < previous.floor || bounds.sink_end < previous.sink_end ||
        bounds.begin < previous.begin || bounds.end < previous.end) {
      fail("bounds are not monotone", band, sequence);
    }
    previous = bounds;
  }
}

void check_interval(const HeadBand& band, const Sequence& sequence, const TileInterval& interval,
                    const Pairs& pairs, bool over_keys, int other_begin, int other_size, int size,
                    std::vector<int>& visits) {
  for (int tile = interval.begin; tile < interval.end; ++tile) {
    if (tile >= static_cast<int>(visits.size())) fail("a tile beyond the end", band, sequence);
    ++visits[tile];
    const int begin = tile * size, end = begin + size;
    const int other_end = other_begin + other_size;
    const int visible = over_keys ? pairs.count(other_begin, other_end, begin, end)
                                  : pairs.count(begin, end, other_begin, other_end);
    const int rows = over_keys ? std::min(other_end, sequence.q_len) - other_begin
                               : std::min(end, sequence.q_len) - begin;
    const int keys = over_keys ? size : other_size;
    if (visible == 0) fail("a visit is wasted", band, sequence);
    if (is_full(interval, tile) != (visible == rows * keys)) {
      fail("full is not what is full", band, sequence);
    }
  }
}

void check_tiles(const HeadBand& band, const Sequence& sequence, int q_size, int k_size) {
  const Pairs pairs{band, sequence};
  const int key_tile_count = (sequence.k_len + k_size - 1) / k_size;
  const int query_tile_count = (sequence.q_len + q_size - 1) / q_size;
  for (int q_tile = 0; q_tile < query_tile_count; ++q_tile) {
    const int begin = q_tile * q_size;
    const int end = std::min(begin + q_size, sequence.q_len);
    const KeyTiles tiles = key_tiles(bounds_at(band, sequence, begin),
                                     bounds_at(band, sequence, end - 1), k_size);
    std::vector<int> visits(key_tile_count, 0);
    check_interval(band, sequence, tiles.sinks, pairs, true, begin, q_size, k_size, visits);
    check_interval(band, sequence, tiles.band, pairs, true, begin, q_size, k_size, visits);
    for (int tile = 0; tile < key_tile_count; ++tile) {
      const bool visible = pairs.count(begin, end, tile * k_size, (tile + 1) * k_size) > 0;
      if (visits[tile] != visible) fail("key tiles miss or repeat a tile", band, sequence);
    }
  }
  for (int k_tile = 0; k_tile < key_tile_count; ++k_tile) {
    const int begin = k_tile * k_size;
    const TileInterval tiles = query_tiles(band, sequence, begin, k_size, q_size);
    std::vector<int> visits(query_tile_count, 0);
    check_interval(band, sequence, tiles, pairs, false, begin, k_size, q_size, visits);
    for (int tile = 0; tile < query_tile_count; ++tile) {
      const int first = tile * q_size;
      const bool visible = pairs.count(first, first + q_size, begin, begin + k_size) > 0;
      if (visits[tile] != visible) fail("query tiles miss or repeat a tile", band, sequence);
    }
  }
}

}  // namespace

int main() {
  std::mt19937 random(20);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  constexpr int kProblems = 100000;
  for (int i = 0; i < kProblems; ++i) {
    const HeadBand band = random_band(random);
    const int q_len = draw(0, 24), k_len = draw(0, 24);
    const Sequence sequence{0, 0, 0, 1, q_len, k_len, draw(-14, 30)};
    check_rows(band, sequence);
    check_tiles(band, sequence, draw(1, 9), draw(1, 9));
  }
  std::printf("%d random bands agree with their definition\n", kProblems);
  return 0;
}
