// SPDX-License-Identifier: BSD-3-Clause
// The kernel's line: wrappers take it as a hidden last argument, so that errors name the caller.
#pragma once

#include <source_location>
#include <string>

namespace simt {

using Where = std::source_location;

inline std::string text(const Where& where) {
  const std::string path = where.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}

}  // namespace simt
