// SPDX-License-Identifier: BSD-3-Clause
// DeviceGuard on a played machine of two GPUs: the call meets its device, and nothing else is left
// changed. A real machine with one GPU would show none of this.
#include <cstdio>
#include <stdexcept>

#include "cuda/host/device_guard.cu"
#include "fake_cuda/machine.h"

namespace {

using longattn::cuda::DeviceGuard;

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::printf("%s does not hold\n", what);
}

int current_device() {
  int device = -1;
  cudaGetDevice(&device);
  return device;
}

// Tensors lie on GPU 1; `current` is on the stack of the thread before and after.
void check_a_call_on_gpu_1(const std::vector<CUcontext>& current, int device, const char* what) {
  machine = Machine();
  machine.contexts[1].users = 1;  // of the program
  for (CUcontext context : current) context->users += context == &machine.contexts[0];
  machine.stack = current;
  {
    const DeviceGuard guard(1);
    expect(current_device() == 1, what);
    expect(machine.contexts[1].users >= 1, what);
    const DeviceGuard again(1);
    expect(current_device() == 1, what);
  }
  expect(current_device() == device, what);
  expect(machine.stack == current, what);
  expect(machine.created == 0, what);
  expect(machine.contexts[1].users == 1, what);
}

void check_failure(const char* function) {
  machine = Machine();
  machine.contexts[1].users = 1;
  machine.failing = function;
  std::string message;
  try {
    const DeviceGuard guard(1);
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  expect(message == std::string(function) + " failed: CUresult 2.", function);
  expect(machine.stack.empty() && machine.contexts[1].users == 1, function);
}

}  // namespace

int main() {
  check_a_call_on_gpu_1({}, 0, "a thread without a context stays without one");
  check_a_call_on_gpu_1({&machine.contexts[0]}, 0, "GPU 0 is current again");
  check_a_call_on_gpu_1({&machine.contexts[1]}, 1, "GPU 1 stays current");
  check_failure("cuDevicePrimaryCtxRetain");
  check_failure("cuCtxPushCurrent");
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
