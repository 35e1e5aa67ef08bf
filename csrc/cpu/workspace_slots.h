// SPDX-License-Identifier: BSD-3-Clause
// Equal parts of a workspace, lent to the items that are being worked on.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace longattn::cpu {

// As many may be lent at once as there are.
template <class Real>
class WorkspaceSlots {
 public:
  WorkspaceSlots(void* workspace, int64_t size_of_slot, int64_t count) {
    for (int64_t i = count - 1; i >= 0; --i) {
      free_.push_back(static_cast<Real*>(workspace) + i * size_of_slot);
    }
  }

  class Slot {
   public:
    explicit Slot(WorkspaceSlots& slots) : slots_(slots) {
      const std::lock_guard<std::mutex> lock(slots_.mutex_);
      memory_ = slots_.free_.back();
      slots_.free_.pop_back();
    }
    ~Slot() {
      const std::lock_guard<std::mutex> lock(slots_.mutex_);
      slots_.free_.push_back(memory_);  // has had room for it
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    Real* memory() const { return memory_; }

   private:
    WorkspaceSlots& slots_;
    Real* memory_;
  };

 private:
  std::mutex mutex_;
  std::vector<Real*> free_;
};

}  // namespace longattn::cpu
