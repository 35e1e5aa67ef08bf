// SPDX-License-Identifier: BSD-3-Clause
#include "machine/code_line.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>

namespace simt {
namespace {

std::string answer_of(const std::string& command) {
  std::string answer;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char part[256];
    while (std::fgets(part, sizeof part, pipe) != nullptr) answer += part;
    pclose(pipe);
  }
  return answer.substr(0, answer.find_first_of(" \n"));
}

}  // namespace

std::string code_line(const void* code) {
  Dl_info file{};
  if (dladdr(code, &file) == 0) return "a plain access";
  const auto offset =
      reinterpret_cast<uintptr_t>(code) - 1 - reinterpret_cast<uintptr_t>(file.dli_fbase);
  char number[32];
  std::snprintf(number, sizeof number, "%#llx", static_cast<unsigned long long>(offset));
  const std::string line = answer_of("addr2line -s -e '" + std::string(file.dli_fname) + "' " +
                                     number + " 2>/dev/null");
  const bool is_known = !line.empty() && line[0] != '?';
  return "a plain access (" + (is_known ? line : "code at " + std::string(number)) + ")";
}

}  // namespace simt
