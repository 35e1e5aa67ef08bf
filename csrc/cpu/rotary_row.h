// SPDX-License-Identifier: BSD-3-Clause
// One vector of one head: biased and normalised, rotated by a row of the table, and back again.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/simd/elements.h"
#include "semantics/rotary.h"

namespace longattn::inline LONGATTN_ISA {

// Where rotated numbers go: into memory, or on top of what is there.
template <class Lanes, class Element>
struct StoreTo {
  Element* data;

  void put(int i, typename Lanes::Vector value) const { Lanes::store(data + i, value); }
  void put_first(int i, typename Lanes::Vector value, int count) const {
    Lanes::store_first(data + i, value, count);
  }
};

template <class Lanes>
struct AddTo {
  typename Lanes::Scalar* data;

  void put(int i, typename Lanes::Vector value) const {
    Lanes::store(data + i, Lanes::add(Lanes::load(data + i), value));
  }
  void put_first(int i, typename Lanes::Vector value, int count) const {
    Lanes::store_first(data + i, Lanes::add(Lanes::load_first(data + i, count), value), count);
  }
};

// body(i, load, put) for all steps of [begin, end); the last one may be a part of a vector.
template <class Lanes, class Body>
void for_each_vector(int begin, int end, Body body) {
  int i = begin;
  for (; i + Lanes::kWidth <= end; i += Lanes::kWidth) {
    body(
        i, [](const auto* data) { return Lanes::load(data); },
        [](const auto& sink, int at, auto value) { sink.put(at, value); });
  }
  if (i == end) return;
  const int count = end - i;
  body(
      i, [count](const auto* data) { return Lanes::load_first(data, count); },
      [count](const auto& sink, int at, auto value) { sink.put_first(at, value, count); });
}

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
  void rotate(const Source* x, Real scale, const Real* table, const Sink& sink) const {
    if (interleaved) {
      rotate_neighbours(x, scale, table, sink);
    } else {
      rotate_halves(x, scale, table, sink);
    }
    const Vector factor = Lanes::broadcast(scale);
    for_each_vector<Lanes>(rotary_dim, head_dim, [&](int i, auto load, auto put) {
      put(sink, i, Lanes::multiply(load(x + i), factor));
    });
  }

  // y = x + bias; returns the sum of squares.
  template <class Source>
  Real add_bias(const Source* x, const Real* bias, Real* y) const {
    Vector squares = Lanes::zero();
    for_each_vector<Lanes>(0, head_dim, [&](int i, auto load, auto put) {
      Vector value = load(x + i);
      if (bias != nullptr) value = Lanes::add(value, load(bias + i));
      squares = Lanes::multiply_add(value, value, squares);
      put(StoreTo<Lanes, Real>{y}, i, value);
    });
    return Lanes::sum(squares);
  }

  // gradient of y / max(|y|, smallest) into `gradient`, in place.
  void differentiate_norm(const Real* y, Real square_sum, Real* gradient) const {
    const Real norm = std::sqrt(square_sum);
    const bool is_clamped = norm < static_cast<Real>(kSmallestNorm);
    const Real inverse = 1 / (is_clamped ? static_cast<Real>(kSmallestNorm) : norm);
    Vector products = Lanes::zero();
    for_each_vector<Lanes>(0, head_dim, [&](int i, auto load, auto) {
      products = Lanes::multiply_add(load(y + i), load(gradient + i), products);
    });
    // (g - n (n . g)) / |y| with n = y / |y|.
    const Real along = is_clamped ? Real(0) : -Lanes::sum(products) * inverse * inverse;
    const Vector scale = Lanes::broadcast(inverse), share = Lanes::broadcast(along);
    for_each_vector<Lanes>(0, head_dim, [&](int i, auto load, auto put) {
      const Vector rest = Lanes::multiply_add(load(y + i), share, load(gradient + i));
      put(StoreTo<Lanes, Real>{gradient}, i, Lanes::multiply(rest, scale));
    });
  }

  template <class Sink>
  void copy(const Real* source, const Sink& sink) const {
    for_each_vector<Lanes>(0, head_dim, [&](int i, auto load, auto put) {
      put(sink, i, load(source + i));
    });
  }

 private:
  template <class Source, class Sink>
  void rotate_halves(const Source* x, Real scale, const Real* table, const Sink& sink) const {
    const int half = rotary_dim / 2;
    const Vector factor = Lanes::broadcast(scale);
    for_each_vector<Lanes>(0, half, [&](int i, auto load, auto put) {
      const Vector first = Lanes::multiply(load(x + i), factor);
      const Vector second = Lanes::multiply(load(x + half + i), factor);
      const Vector cosine = Lanes::load(table + i), sine = Lanes::load(table + stride + i);
      put(sink, i,
          Lanes::subtract(Lanes::multiply(first, cosine), Lanes::multiply(second, sine)));
      put(sink, half + i, Lanes::multiply_add(second, cosine, Lanes::multiply(first, sine)));
    });
  }

  template <class Source, class Sink>
  void rotate_neighbours(const Source* x, Real scale, const Real* table, const Sink& sink) const {
    const Vector factor = Lanes::broadcast(scale);
    for_each_vector<Lanes>(0, rotary_dim, [&](int i, auto load, auto put) {
      const Vector value = Lanes::multiply(load(x + i), factor);
      const Vector cosine = Lanes::load(table + i), sine = Lanes::load(table + stride + i);
      const Vector turned = Lanes::multiply(Lanes::swap_neighbours(value), sine);
      put(sink, i, Lanes::multiply_add(value, cosine, turned));
    });
  }
};

}  // namespace longattn::inline LONGATTN_ISA
