// SPDX-License-Identifier: BSD-3-Clause
// Walks along diagonals of tiles, by brute force: each visible pair lies in one visited tile, on a
// diagonal that holds its distance; tiles without one are not visited, and full ones are full.
#include <algorithm>
#include <set>

#include "cuda/schedule/diagonal.h"
#include "random_bands.h"

namespace {

using namespace random_bands;
using cuda::Coverage;
using cuda::Numbers;

struct Walk {
  const HeadBand& band;
  const Sequence& sequence;
  int tile;
  int64_t diagonal;

  int64_t first_key(int64_t row) const {
    return cuda::first_key_beside(sequence, diagonal, row, tile);
  }

  Coverage coverage(int64_t row) const {
    const auto last_row = static_cast<int32_t>(std::min<int64_t>(row + tile, sequence.q_len) - 1);
    return cuda::coverage(bounds_at(band, sequence, static_cast<int32_t>(row)),
                          bounds_at(band, sequence, last_row), first_key(row), tile);
  }

  Numbers tiles() const {
    const int64_t low = diagonal * tile - (tile - 1), high = diagonal * tile + tile - 1;
    const int64_t end = cuda::end_of_keys_at(band, low, high, sequence.k_len);
    return cuda::tiles_beside_keys(sequence, diagonal, end, tile);
  }
};

// Visible pairs of all visited tiles of a diagonal.
int64_t visit(const Walk& walk, std::set<std::pair<int64_t, int64_t>>& seen) {
  const Sequence& sequence = walk.sequence;
  const Numbers tiles = walk.tiles();
  int64_t visits = 0;
  for (int64_t index = 0; index * walk.tile < sequence.q_len; ++index) {
    const int64_t row = index * walk.tile, key = walk.first_key(row);
    const int64_t begin = std::max<int64_t>(key, 0);
    const int64_t end = std::min<int64_t>(key + walk.tile, sequence.k_len);
    const int64_t rows = std::min<int64_t>(row + walk.tile, sequence.q_len) - row;
    int64_t visible = 0;
    for (int64_t i = row; i < row + rows; ++i) {
      for (int64_t j = begin; j < end; ++j) {
        if (!shows(walk.band, sequence.diagonal + i, j)) continue;
        ++visible;
        const int64_t distance = sequence.diagonal + i - j;
        const int64_t nearest = walk.diagonal * walk.tile - (walk.tile - 1);
        if (distance < nearest || distance >= nearest + 2 * walk.tile - 1) {
          fail("a distance of another diagonal", walk.band, sequence);
        }
        if (!seen.emplace(i, j).second) fail("a pair is visited twice", walk.band, sequence);
      }
    }
    const bool overlaps = key + walk.tile > 0 && key < sequence.k_len;
    const Coverage found = overlaps ? walk.coverage(row) : Coverage{false, false};
    const bool visited = index >= tiles.begin && index < tiles.end && found.any;
    if (visited != (visible > 0)) {
      fail(visited ? "a visit is wasted" : "a tile is missed", walk.band, sequence);
    }
    if (visited && found.all != (visible == rows * walk.tile)) {
      fail("full is not what is full", walk.band, sequence);
    }
    visits += visited;
  }
  return visits;
}

}  // namespace

int main() {
  std::mt19937 random(21);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  constexpr int kProblems = 20000;
  int64_t visits = 0;
  for (int i = 0; i < kProblems; ++i) {
    const HeadBand band = random_band(random);
    const int q_len = draw(0, 24), k_len = draw(0, 24), tile = draw(1, 9);
    const Sequence sequence{0, 0, 0, 1, q_len, k_len, draw(-14, 30)};
    const int64_t first = sequence.diagonal - (k_len - 1), last = sequence.diagonal + q_len - 1;
    const Numbers diagonals = cuda::diagonals_of(first, last, tile);
    std::set<std::pair<int64_t, int64_t>> seen;
    for (int64_t b = diagonals.begin; b < diagonals.end; ++b) {
      visits += visit({band, sequence, tile, b}, seen);
    }
    int64_t visible = 0;
    for (int row = 0; row < q_len; ++row) {
      for (int key = 0; key < k_len; ++key) visible += shows(band, sequence.diagonal + row, key);
    }
    if (visible != static_cast<int64_t>(seen.size())) fail("a pair is lost", band, sequence);
  }
  std::printf("%d random bands, %lld visits of tiles on diagonals\n", kProblems,
              static_cast<long long>(visits));
  return visits == 0;
}
