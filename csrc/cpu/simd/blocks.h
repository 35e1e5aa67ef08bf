// SPDX-License-Identifier: BSD-3-Clause
// Walks along a row two vectors at a time, so that 16-bit results fill whole cache lines: a line
// that is written at once need not be read first. What is left over is one vector, or a part of
// one.
#pragma once

#include "semantics/portable.h"

namespace longattn::inline LONGATTN_ISA {

// Vectors that lie side by side.
template <class Lanes, int kVectors>
struct Block {
  typename Lanes::Vector vectors[kVectors];

  template <class Operation>
  [[gnu::always_inline]] static Block made_by(Operation operation) {
    Block result;
    for (int n = 0; n < kVectors; ++n) result.vectors[n] = operation(n);
    return result;
  }

  static Block broadcast(typename Lanes::Scalar value) {
    return made_by([&](int) { return Lanes::broadcast(value); });
  }
  friend Block operator+(const Block& a, const Block& b) {
    return made_by([&](int n) { return Lanes::add(a.vectors[n], b.vectors[n]); });
  }
  friend Block operator-(const Block& a, const Block& b) {
    return made_by([&](int n) { return Lanes::subtract(a.vectors[n], b.vectors[n]); });
  }
  friend Block operator*(const Block& a, const Block& b) {
    return made_by([&](int n) { return Lanes::multiply(a.vectors[n], b.vectors[n]); });
  }
  friend Block multiply_add(const Block& a, const Block& b, const Block& c) {
    return made_by(
        [&](int n) { return Lanes::multiply_add(a.vectors[n], b.vectors[n], c.vectors[n]); });
  }
  friend Block swap_neighbours(const Block& a) {
    return made_by([&](int n) { return Lanes::swap_neighbours(a.vectors[n]); });
  }
  typename Lanes::Vector sum() const {
    if constexpr (kVectors == 1)
      return vectors[0];
    else
      return Lanes::add(vectors[0], vectors[1]);
  }
};

// How a block is loaded and stored.
template <class Lanes>
struct TwoVectors {
  using BlockType = Block<Lanes, 2>;

  template <class Element>
  BlockType load(const Element* data) const {
    return {Lanes::load(data), Lanes::load(data + Lanes::kWidth)};
  }
  template <class Element>
  void store(Element* data, const BlockType& block) const {
    Lanes::store_two(data, block.vectors[0], block.vectors[1]);
  }
  template <class Element>
  void stream(Element* data, const BlockType& block) const {
    Lanes::stream_two(data, block.vectors[0], block.vectors[1]);
  }
};

template <class Lanes>
struct OneVector {
  using BlockType = Block<Lanes, 1>;

  template <class Element>
  BlockType load(const Element* data) const {
    return {Lanes::load(data)};
  }
  template <class Element>
  void store(Element* data, const BlockType& block) const {
    Lanes::store(data, block.vectors[0]);
  }
  template <class Element>
  void stream(Element* data, const BlockType& block) const {
    store(data, block);
  }
};

template <class Lanes>
struct PartOfVector {
  using BlockType = Block<Lanes, 1>;
  int count;

  template <class Element>
  BlockType load(const Element* data) const {
    return {Lanes::load_first(data, count)};
  }
  template <class Element>
  void store(Element* data, const BlockType& block) const {
    Lanes::store_first(data, block.vectors[0], count);
  }
  template <class Element>
  void stream(Element* data, const BlockType& block) const {
    store(data, block);
  }
};

// body(i, access) for blocks that cover [begin, end). Inlined, so that what it captures stays in
// registers.
template <class Lanes, class Body>
[[gnu::always_inline]] inline void for_each_block(int begin, int end, Body body) {
  int i = begin;
  for (; i + 2 * Lanes::kWidth <= end; i += 2 * Lanes::kWidth) body(i, TwoVectors<Lanes>());
  if (i + Lanes::kWidth <= end) {
    body(i, OneVector<Lanes>());
    i += Lanes::kWidth;
  }
  if (i < end) body(i, PartOfVector<Lanes>{end - i});
}

}  // namespace longattn::inline LONGATTN_ISA
