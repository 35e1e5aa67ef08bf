// SPDX-License-Identifier: BSD-3-Clause
// How often things happened since the last look: tests prove with them that work is skipped and
// that swizzles avoid bank conflicts.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace simt {

struct Counts {
  uint64_t blocks = 0;
  uint64_t switches = 0;         // from one thread to another
  uint64_t barriers = 0;         // completed
  uint64_t async_copies = 0;     // per thread
  uint64_t matrix_loads = 0;     // ldmatrix, per warp
  uint64_t bank_conflicts = 0;   // of ldmatrix: passes over shared memory beyond one a matrix
  uint64_t matrix_products = 0;  // mma, per warp
};

inline Counts& counts() {
  static Counts since_last_look;
  return since_last_look;
}

// Returns the counts and begins again at 0.
inline Counts take_counts() {
  const Counts taken = counts();
  counts() = {};
  return taken;
}

// Matrix products of each kernel, by its name.
inline std::map<std::string, uint64_t>& products_of_kernels() {
  static std::map<std::string, uint64_t> since_last_look;
  return since_last_look;
}

inline std::map<std::string, uint64_t> take_products() {
  return std::exchange(products_of_kernels(), {});
}

}  // namespace simt
