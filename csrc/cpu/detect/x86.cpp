// SPDX-License-Identifier: BSD-3-Clause
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/detect/detect.h"

namespace longattn::cpu {

namespace {

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

// Linux hands out the tile registers only to processes that ask for them.
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  return has_avx512_bf16() && (d & kAmxBf16) && (d & kAmxTile) && may_use_tiles();
}

}  // namespace

bool processor_runs(std::string_view isa) {
  if (isa == "baseline") return true;
  if (isa == "avx2") return has_avx2();
  if (isa == "avx512") return has_avx512();
  if (isa == "avx512_bf16" || isa == "avx512_amx_model") return has_avx512_bf16();
  if (isa == "avx512_amx") return has_amx();
  return false;
}

}  // namespace longattn::cpu
