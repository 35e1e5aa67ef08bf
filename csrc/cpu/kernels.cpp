// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set (CMakeLists.txt lists them), each time with its own
// LONGATTN_ISA; cpu/isa/<name>.h says with which vectors and for which element types.
#include "cpu/kernels.h"

#include "cpu/backward.h"
#include "cpu/forward.h"
#include "cpu/rotary.h"
#include "cpu/row_dot.h"

#define LONGATTN_QUOTE(path) #path
#define LONGATTN_ISA_HEADER(row) LONGATTN_QUOTE(cpu/isa/row.h)
#include LONGATTN_ISA_HEADER(LONGATTN_ISA)

namespace longattn::inline LONGATTN_ISA {

namespace {

template <class Precision>
const Kernels* kernels_of() {
  using Lanes = typename Precision::RowLanes;
  using Element = typename Precision::Element;
  static constexpr Kernels kernels{&Forward<Precision>::run, &Backward<Precision>::run,
                                   &write_row<typename Precision::Lanes, Element>,
                                   &row_dot<typename Precision::Lanes, Element>,
                                   &Rotary<Lanes, Element>::forward,
                                   &Rotary<Lanes, Element>::backward};
  return &kernels;
}

template <>
[[maybe_unused]] const Kernels* kernels_of<void>() {
  return nullptr;
}

}  // namespace

// Null where another row's kernels serve this type just as well.
const Kernels* find_kernels(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return kernels_of<Isa::Float32>();
    case ElementType::kFloat64:
      return kernels_of<Isa::Float64>();
    case ElementType::kBFloat16:
      return kernels_of<Isa::BFloat16>();
    case ElementType::kFloat16:
      return kernels_of<Isa::Float16>();
  }
  return nullptr;
}

}  // namespace longattn::inline LONGATTN_ISA
