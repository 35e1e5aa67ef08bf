// SPDX-License-Identifier: BSD-3-Clause
// Drivers that are too old get a sentence with what they have and what is needed.
#include <cstdio>
#include <string>

#include "cuda/host/versions.h"

namespace {

using longattn::cuda::why_driver_is_refused;
using longattn::cuda::why_driver_is_too_old;

int failures = 0;

void expect(const std::string& reason, const std::string& sentence) {
  if (reason == sentence) return;
  ++failures;
  std::printf("got '%s'\nexpected '%s'\n", reason.c_str(), sentence.c_str());
}

}  // namespace

int main() {
  expect(why_driver_is_too_old(12010), "");
  expect(why_driver_is_too_old(13000), "");
  // CUDA's runtime accepts it within one major version.
  expect(why_driver_is_too_old(12000),
         "the NVIDIA driver runs CUDA up to 12.0, longattn's kernels need 12.1: update the driver "
         "to R530 or newer");
  expect(why_driver_is_refused(12080, 13000),
         "the NVIDIA driver runs CUDA up to 12.8, this build needs 13.0: update the driver or "
         "build with an older CUDA toolkit (12.1 at least)");
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
