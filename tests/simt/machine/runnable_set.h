// SPDX-License-Identifier: BSD-3-Clause
// A set of thread numbers below 1024 that finds its next member quickly.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace simt {

class RunnableSet {
 public:
  static constexpr int kNone = -1;

  void insert(int index) { words_[index / 64] |= bit(index); }
  void erase(int index) { words_[index / 64] &= ~bit(index); }
  void clear() { words_ = {}; }

  // The first member at or after `from`, going on at 0 after the last.
  int next_from(int from) const {
    const int begin = from / 64 % kWords;
    const uint64_t later = words_[begin] & (~uint64_t{0} << from % 64);
    if (later != 0) return begin * 64 + std::countr_zero(later);
    for (int step = 1; step <= kWords; ++step) {
      const int word = (begin + step) % kWords;
      if (words_[word] != 0) return word * 64 + std::countr_zero(words_[word]);
    }
    return kNone;
  }

  int last() const {
    for (int word = kWords - 1; word >= 0; --word) {
      if (words_[word] != 0) return word * 64 + 63 - std::countl_zero(words_[word]);
    }
    return kNone;
  }

 private:
  static constexpr int kWords = 16;

  static uint64_t bit(int index) { return uint64_t{1} << index % 64; }

  std::array<uint64_t, kWords> words_{};
};

}  // namespace simt
