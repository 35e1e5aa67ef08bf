// SPDX-License-Identifier: BSD-3-Clause
// Scratch memory of one thread, handed out piece by piece; a new work item starts over.
#pragma once

#include <cstddef>
#include <cstdint>

#include "semantics/portable.h"

namespace longattn {

inline constexpr size_t kCacheLine = 64;

// The backward pass takes the most, at head_dim = value_dim = 256 in double precision: 835 KiB.
inline constexpr size_t kScratchBytes = size_t{1} << 20;

inline namespace LONGATTN_ISA {

class Arena {
 public:
  explicit Arena(void* memory) : next_(static_cast<char*>(memory)) {}

  // `count` numbers, aligned to a cache line, not initialised.
  template <class T>
  T* take(size_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += (count * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
    return piece;
  }

 private:
  char* next_;
};

}  // namespace LONGATTN_ISA
}  // namespace longattn
