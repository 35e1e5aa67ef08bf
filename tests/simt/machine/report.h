// SPDX-License-Identifier: BSD-3-Clause
// How errors leave a kernel: as std::runtime_error out of the launch. A debugger stops at
// simt::fail with the thread that is at fault on top.
#pragma once

#include <cstdint>
#include <string>

namespace simt {

// Throws the sentence with the kernel, block and thread in front.
[[noreturn]] void fail(const std::string& sentence);

// "simt: kernel forward, block 3, thread 17 (warp 0, lane 17): "
std::string error_prefix();

// Who waits where for what.
std::string deadlock_report();

// 0x0000ffff
std::string hexadecimal(uint32_t number);

}  // namespace simt
