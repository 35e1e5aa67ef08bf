// SPDX-License-Identifier: BSD-3-Clause
// One vector of one head: biased and normalised, rotated by a row of the table, and back again.
#pragma once

#include <cmath>

#include "cpu/simd/blocks.h"
#include "cpu/simd/elements.h"
#include "semantics/rotary.h"

namespace longattn::inline LONGATTN_ISA {

// Where rotated numbers go: into memory, or on top of what is there.
template <class Element>
struct StoreTo {
  Element* data;

  template <class Access, class Block>
  void put(const Access& access, int i, const Block& block) const {
    access.store(data + i, block);
  }
};

// Past the caches where whole blocks are written.
template <class Element>
struct StreamTo {
  Element* data;

  template <class Access, class Block>
  void put(const Access& access, int i, const Block& block) const {
    access.stream(data + i, block);
  }
};

template <class Real>
struct AddTo {
  Real* data;

  template <class Access, class Block>
  void put(const Access& access, int i, const Block& block) const {
    access.store(data + i, access.load(data + i) + block);
  }
};

// Vectors that are rotated one after the other: heads of one row, which share its table and its
// scale, or rows of one head. Steps count numbers.
struct Series {
  int64_t count;
  int64_t source_step;
  int64_t sink_step;
  int64_t table_step;  // 0: shared, like the next
  int64_t scale_step;
};

inline constexpr Series kOneVector{1, 0, 0, 0, 0};

template <class Lanes>
struct RotaryRow {
  using Real = typename Lanes::Scalar;
  using Vector = typename Lanes::Vector;

  int head_dim;
  int rotary_dim;
  bool interleaved;
  int stride;  // of the table's two parts

  // sink = scale * R x; what is not rotated passes, scaled too. x and the sink may be one.
  template <class Source, class Sink>
  void rotate(const Source* x, const Real* scales, const Real* table, Sink sink,
              const Series& series = kOneVector) const {
    if (interleaved) {
      each_of(series, x, scales, table, sink, [this](auto... at) { rotate_neighbours(at...); });
    } else {
      each_of(series, x, scales, table, sink, [this](auto... at) { rotate_halves(at...); });
    }
    if (rotary_dim == head_dim) return;
    each_of(series, x, scales, table, sink, [this](auto... at) { pass(at...); });
  }

  // y = x + bias; returns the sum of squares.
  template <class Source>
  Real add_bias(const Source* x, const Real* bias, Real* y) const {
    Vector squares = Lanes::zero();
    for_each_block<Lanes>(0, head_dim, [=, &squares](int i, auto access) {
      auto block = access.load(x + i);
      if (bias != nullptr) block = block + access.load(bias + i);
      squares = Lanes::add(squares, (block * block).sum());
      access.store(y + i, block);
    });
    return Lanes::sum(squares);
  }

  // From the gradient of y / max(|y|, smallest) to that of y, in place.
  void differentiate_norm(const Real* y, Real square_sum, Real* gradient) const {
    const Real norm = std::sqrt(square_sum);
    const bool is_clamped = norm < static_cast<Real>(kSmallestNorm);
    const Real inverse = 1 / (is_clamped ? static_cast<Real>(kSmallestNorm) : norm);
    Vector products = Lanes::zero();
    for_each_block<Lanes>(0, head_dim, [=, &products](int i, auto access) {
      products = Lanes::add(products, (access.load(y + i) * access.load(gradient + i)).sum());
    });
    // (g - n (n . g)) / |y| with n = y / |y|.
    const Real along = is_clamped ? Real(0) : -Lanes::sum(products) * inverse * inverse;
    for_each_block<Lanes>(0, head_dim, [=](int i, auto access) {
      const auto rest =
          multiply_add(access.load(y + i), broadcast(access, along), access.load(gradient + i));
      access.store(gradient + i, rest * broadcast(access, inverse));
    });
  }

  template <class Sink>
  void copy(const Real* source, Sink sink) const {
    for_each_block<Lanes>(
        0, head_dim, [=](int i, auto access) { sink.put(access, i, access.load(source + i)); });
  }

 private:
  template <class Access>
  static typename Access::BlockType broadcast(const Access&, Real value) {
    return Access::BlockType::broadcast(value);
  }

  template <class Source, class Sink, class Body>
  static void each_of(const Series& series, const Source* x, const Real* scales, const Real* table,
                      Sink sink, Body body) {
    for (int64_t n = 0; n < series.count; ++n) {
      body(x, *scales, table, sink);
      x += series.source_step;
      scales += series.scale_step;
      table += series.table_step;
      sink.data += series.sink_step;
    }
  }

  template <class Source, class Sink>
  void rotate_halves(const Source* x, Real scale, const Real* cosines, Sink sink) const {
    const int half = rotary_dim / 2;
    const Source* y = x + half;
    const Real* sines = cosines + stride;
    for_each_block<Lanes>(0, half, [=](int i, auto access) {
      const auto first = access.load(x + i) * broadcast(access, scale);
      const auto second = access.load(y + i) * broadcast(access, scale);
      const auto cosine = access.load(cosines + i), sine = access.load(sines + i);
      sink.put(access, i, first * cosine - second * sine);
      sink.put(access, half + i, multiply_add(second, cosine, first * sine));
    });
  }

  template <class Source, class Sink>
  void rotate_neighbours(const Source* x, Real scale, const Real* cosines, Sink sink) const {
    const Real* sines = cosines + stride;
    for_each_block<Lanes>(0, rotary_dim, [=](int i, auto access) {
      const auto block = access.load(x + i) * broadcast(access, scale);
      const auto turned = swap_neighbours(block) * access.load(sines + i);
      sink.put(access, i, multiply_add(block, access.load(cosines + i), turned));
    });
  }

  template <class Source, class Sink>
  void pass(const Source* x, Real scale, const Real* /*cosines*/, Sink sink) const {
    for_each_block<Lanes>(rotary_dim, head_dim, [=](int i, auto access) {
      sink.put(access, i, access.load(x + i) * broadcast(access, scale));
    });
  }
};

}  // namespace longattn::inline LONGATTN_ISA
