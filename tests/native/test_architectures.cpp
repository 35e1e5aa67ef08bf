// SPDX-License-Identifier: BSD-3-Clause
// Which GPUs a list of compiled architectures covers, against CUDA's rules spelled out as cases.
#include <cstdio>
#include <iterator>

#include "cuda/host/architectures.h"

namespace {

struct Case {
  const char* list;
  int major, minor;
  bool covered;
  const char* why;
};

constexpr Case kCases[] = {
    {"80-real", 8, 0, true, "machine code runs where it was compiled for"},
    {"80-real", 8, 9, true, "and on later minors of the same major"},
    {"86-real", 8, 0, false, "not on earlier ones"},
    {"80-real", 9, 0, false, "nor on another major"},
    {"80-virtual", 12, 0, true, "PTX is compiled for anything newer"},
    {"80-virtual", 7, 5, false, "not for anything older"},
    {"80", 8, 6, true, "no suffix: machine code"},
    {"80", 10, 0, true, "no suffix: and PTX"},
    {"90a-real", 9, 0, true, "an 'a' target runs on its GPU"},
    {"90a-real", 10, 0, false, "and on no other"},
    {"90a-virtual", 10, 0, false, "its PTX neither"},
    {"100f-real", 10, 3, true, "an 'f' target runs on its family"},
    {"100f-real", 12, 0, false, "and on no other"},
    {"80-real,90a-real,80-virtual", 9, 0, true, "one entry of the list is enough"},
    {"80-real,90a-real,80-virtual", 10, 0, true, "the last entry counts too"},
    {"80-real,90a-real", 10, 0, false, "no entry, no code"},
    {"", 9, 0, false, "an empty list covers nothing"},
};

}  // namespace

int main() {
  int failures = 0;
  for (const Case& c : kCases) {
    const bool covered = longattn::cuda::architectures_cover(c.list, c.major, c.minor);
    if (covered == c.covered) continue;
    ++failures;
    std::printf("'%s' on %d.%d: got %d (%s)\n", c.list, c.major, c.minor, covered, c.why);
  }
  std::printf("%zu cases, %d failures\n", std::size(kCases), failures);
  return failures == 0 ? 0 : 1;
}
