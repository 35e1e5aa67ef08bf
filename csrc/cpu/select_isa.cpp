// SPDX-License-Identifier: BSD-3-Clause
#include "cpu/select_isa.h"

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "cpu/detect/detect.h"

// One function a row, defined in kernels.cpp. Weak: a row that this build leaves out is null.
#define LONGATTN_DECLARE_ROW(row)                                     \
  namespace longattn::row {                                           \
  __attribute__((weak)) const Kernels* find_kernels(ElementType type); \
  }
LONGATTN_DECLARE_ROW(baseline)
LONGATTN_DECLARE_ROW(avx2)
LONGATTN_DECLARE_ROW(avx512)
LONGATTN_DECLARE_ROW(avx512_bf16)
LONGATTN_DECLARE_ROW(avx512_amx)
LONGATTN_DECLARE_ROW(avx512_amx_model)

namespace longattn::cpu {

namespace {

struct Row {
  const char* name;
  const Kernels* (*find_kernels)(ElementType type);
  bool automatic;  // may be chosen without being named
};

// From the plainest to the best; a row without kernels of its own for a type uses those before it.
const std::array<Row, 6> kRows{{{"baseline", &baseline::find_kernels, true},
                                {"avx2", &avx2::find_kernels, true},
                                {"avx512", &avx512::find_kernels, true},
                                {"avx512_bf16", &avx512_bf16::find_kernels, true},
                                {"avx512_amx_model", &avx512_amx_model::find_kernels, false},
                                {"avx512_amx", &avx512_amx::find_kernels, true}}};

bool is_compiled(const Row& row) { return row.find_kernels != nullptr; }

bool is_supported(const Row& row) { return is_compiled(row) && processor_runs(row.name); }

template <class Accept>
std::vector<std::string> names(Accept accept) {
  std::vector<std::string> result;
  for (const Row& row : kRows) {
    if (accept(row)) result.push_back(row.name);
  }
  return result;
}

size_t forced_row(const std::string& name) {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name && is_supported(kRows[i])) return i;
  }
  std::string accepted;
  for (const std::string& supported : supported_isas()) accepted += " " + supported;
  throw std::invalid_argument("LONGATTN_ISA is '" + name +
                              "', which this processor or this build cannot run; it takes one of:" +
                              accepted);
}

size_t best_row() {
  size_t best = 0;
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].automatic && is_supported(kRows[i])) best = i;
  }
  return best;
}

struct Choice {
  std::string name;
  std::array<const Kernels*, kElementTypes> kernels;
};

Choice choose() {
  const char* forced = std::getenv("LONGATTN_ISA");
  const size_t chosen = forced && *forced ? forced_row(forced) : best_row();
  Choice choice{kRows[chosen].name, {}};
  for (int type = 0; type < kElementTypes; ++type) {
    for (size_t i = 0; i <= chosen; ++i) {
      if (!is_supported(kRows[i])) continue;
      if (i != chosen && !kRows[i].automatic) continue;
      if (const Kernels* found = kRows[i].find_kernels(static_cast<ElementType>(type))) {
        choice.kernels[type] = found;
      }
    }
  }
  return choice;
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const Kernels& kernels_for(ElementType type) {
  const Kernels* kernels = choice().kernels[static_cast<int>(type)];
  if (kernels == nullptr) {
    throw std::invalid_argument("this build of longattn has no kernels for this element type that "
                                "this processor can run; build it with LONGATTN_ISAS=all");
  }
  return *kernels;
}

std::string chosen_isa() { return choice().name; }

std::vector<std::string> compiled_isas() { return names(is_compiled); }

std::vector<std::string> supported_isas() { return names(is_supported); }

}  // namespace longattn::cpu
