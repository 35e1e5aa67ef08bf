// SPDX-License-Identifier: BSD-3-Clause
// A thread's share of a vector: 16 numbers, as 8 pairs (a, b) that are rotated together.
#pragma once

#include <ptx/math.h>
#include <ptx/memory.h>

#include <cstring>

#include "cuda/rotary/parameters.h"

namespace longattn::cuda {

LONGATTN_DEVICE float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

LONGATTN_DEVICE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// Where the numbers lie in the vector: two runs of up to 8.
struct UnitPlace {
  int32_t first;
  int32_t second;
  int32_t first_count;
  int32_t second_count;
  bool vectorized;
  bool interleaved;
};

LONGATTN_DEVICE int32_t count_from(int32_t begin, int32_t end) {
  return static_cast<int32_t>(clamp(end - begin, 0, 8));
}

LONGATTN_DEVICE UnitPlace unit_place(const RotaryProblem& problem, const RotaryGeometry& geometry,
                                     int32_t unit) {
  UnitPlace place{0, 0, 0, 0, geometry.vectorized, problem.interleaved};
  const int32_t half = problem.rotary_dim / 2;
  if (!problem.interleaved && unit < geometry.pair_units) {
    place.first = 8 * unit;
    place.second = half + 8 * unit;
    place.first_count = place.second_count = count_from(place.first, half);
    return place;
  }
  // Neighbours: pairs of the interleaved layout, or numbers that pass.
  place.first = problem.interleaved
                    ? kNumbersOfUnit * unit
                    : problem.rotary_dim + kNumbersOfUnit * (unit - geometry.pair_units);
  place.second = place.first + 8;
  place.first_count = count_from(place.first, problem.head_dim);
  place.second_count = count_from(place.second, problem.head_dim);
  return place;
}

// As it lies in memory: 8 numbers a run, two or one to a word.
template <class Element>
struct RawUnit {
  static constexpr int kWords = 2 * sizeof(Element);
  uint32_t first[kWords];
  uint32_t second[kWords];
};

template <class Element>
LONGATTN_DEVICE void load_run(uint32_t (&words)[2 * sizeof(Element)], const Element* source,
                              int32_t count, bool vectorized) {
  constexpr int kWords = 2 * sizeof(Element);
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = 0;
  if (vectorized) {
    if (count == 0) return;
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 part = ptx::load_global_16(reinterpret_cast<const uint32_t*>(source) + i);
      words[i] = part.x;
      words[i + 1] = part.y;
      words[i + 2] = part.z;
      words[i + 3] = part.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(Element) == 4) {
      words[i] = reinterpret_cast<const uint32_t*>(source)[i];
    } else {
      const uint32_t half = reinterpret_cast<const uint16_t*>(source)[i];
      words[i / 2] |= half << 16 * (i % 2);
    }
  }
}

template <class Element>
LONGATTN_DEVICE void store_run(Element* target, const uint32_t (&words)[2 * sizeof(Element)],
                               int32_t count, bool vectorized) {
  constexpr int kWords = 2 * sizeof(Element);
  if (vectorized) {
    if (count == 0) return;
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      ptx::store_global_16(reinterpret_cast<uint32_t*>(target) + i,
                           {words[i], words[i + 1], words[i + 2], words[i + 3]});
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(Element) == 4) {
      reinterpret_cast<uint32_t*>(target)[i] = words[i];
    } else {
      reinterpret_cast<uint16_t*>(target)[i] = static_cast<uint16_t>(words[i / 2] >> 16 * (i % 2));
    }
  }
}

template <class Element>
LONGATTN_DEVICE RawUnit<Element> load_unit(const Element* vector, const UnitPlace& place) {
  RawUnit<Element> raw;
  load_run<Element>(raw.first, vector + place.first, place.first_count, place.vectorized);
  load_run<Element>(raw.second, vector + place.second, place.second_count, place.vectorized);
  return raw;
}

template <class Element>
LONGATTN_DEVICE void store_unit(Element* vector, const UnitPlace& place,
                                const RawUnit<Element>& raw) {
  store_run<Element>(vector + place.first, raw.first, place.first_count, place.vectorized);
  store_run<Element>(vector + place.second, raw.second, place.second_count, place.vectorized);
}

struct Pairs {
  float a[kPairsOfUnit];
  float b[kPairsOfUnit];
};

template <class Element>
LONGATTN_DEVICE void widen_run(float (&numbers)[8], const uint32_t (&words)[2 * sizeof(Element)]) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    if constexpr (sizeof(Element) == 4) {
      numbers[i] = float_of(words[i]);
      numbers[i + 1] = float_of(words[i + 1]);
    } else {
      const float2 pair = ptx::unpack<Element>(words[i / 2]);
      numbers[i] = pair.x;
      numbers[i + 1] = pair.y;
    }
  }
}

template <class Element>
LONGATTN_DEVICE void narrow_run(uint32_t (&words)[2 * sizeof(Element)], const float (&numbers)[8]) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    if constexpr (sizeof(Element) == 4) {
      words[i] = bits_of(numbers[i]);
      words[i + 1] = bits_of(numbers[i + 1]);
    } else {
      words[i / 2] = ptx::pack<Element>(numbers[i], numbers[i + 1]);
    }
  }
}

// From two runs to pairs and back; the layouts differ in which numbers are partners.
LONGATTN_DEVICE Pairs paired(const float (&first)[8], const float (&second)[8], bool interleaved) {
  Pairs pairs;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs.a[i] = interleaved ? first[2 * i] : first[i];
    pairs.b[i] = interleaved ? first[2 * i + 1] : second[i];
    pairs.a[4 + i] = interleaved ? second[2 * i] : first[4 + i];
    pairs.b[4 + i] = interleaved ? second[2 * i + 1] : second[4 + i];
  }
  return pairs;
}

LONGATTN_DEVICE void unpaired(const Pairs& pairs, float (&first)[8], float (&second)[8],
                              bool interleaved) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    first[2 * i] = interleaved ? pairs.a[i] : pairs.a[2 * i];
    first[2 * i + 1] = interleaved ? pairs.b[i] : pairs.a[2 * i + 1];
    second[2 * i] = interleaved ? pairs.a[4 + i] : pairs.b[2 * i];
    second[2 * i + 1] = interleaved ? pairs.b[4 + i] : pairs.b[2 * i + 1];
  }
}

template <class Element>
LONGATTN_DEVICE Pairs pairs_of(const RawUnit<Element>& raw, const UnitPlace& place) {
  float first[8], second[8];
  widen_run<Element>(first, raw.first);
  widen_run<Element>(second, raw.second);
  return paired(first, second, place.interleaved);
}

template <class Element>
LONGATTN_DEVICE RawUnit<Element> raw_of(const Pairs& pairs, const UnitPlace& place) {
  float first[8], second[8];
  unpaired(pairs, first, second, place.interleaved);
  RawUnit<Element> raw;
  narrow_run<Element>(raw.first, first);
  narrow_run<Element>(raw.second, second);
  return raw;
}

}  // namespace longattn::cuda
