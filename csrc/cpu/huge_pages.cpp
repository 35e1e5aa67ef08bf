// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/huge_pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace longattn::cpu {

#if defined(__linux__)

// The first touch of fresh memory costs more than a copy of it when it is made page by page of
// 4 KiB. Advice changes no contents, and its failure nothing at all.
void advise_huge_pages(void* data, int64_t bytes) {
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end =
      (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kHugePage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

#else

void advise_huge_pages(void*, int64_t) {}

#endif

}  // namespace longattn::cpu
