// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/huge_pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace longattn::cpu {

#if defined(__linux__)

// The first touch of fresh memory costs more than a copy of it when it is made page by page of
// 4 KiB. Advice changes no contents, and its failure nothing at all. It is rounded outwards: an
// allocation rarely begins at a large page, and half of one would be touched page by page; for the
// neighbour whose part it is, the size of its pages changes at most.
void advise_huge_pages(void* data, int64_t bytes) {
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = address & ~(kHugePage - 1);
  const uintptr_t last = address + static_cast<uintptr_t>(bytes) + kHugePage - 1;
  const uintptr_t end = last & ~(kHugePage - 1);
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

#else

void advise_huge_pages(void*, int64_t) {}

#endif

}  // namespace longattn::cpu
