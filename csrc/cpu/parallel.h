// SPDX-License-Identifier: BSD-3-Clause
// Shares work items between threads that live for one call: nothing is left behind that could
// break after fork() or compete with the threads of another library.
#pragma once

#include <cstdint>
#include <functional>

namespace longattn {

// body(item, scratch) for every item in [0, items); scratch is kScratchBytes of the thread's own.
// Items start in order. An exception in a body is rethrown here once all threads have stopped.
void for_each_item(int64_t items, int threads,
                   const std::function<void(int64_t item, void* scratch)>& body);

}  // namespace longattn
