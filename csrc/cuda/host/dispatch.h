// SPDX-License-Identifier: BSD-3-Clause
// From values known at run time to compiled variants, by functions.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include <ptx/device.h>

#include "semantics/element_type.h"

namespace longattn::cuda {

// visit(std::type_identity<Element>)
template <class Visit>
void with_element(ElementType type, Visit visit) {
  if (type == ElementType::kBFloat16) return visit(std::type_identity<__nv_bfloat16>());
  if (type == ElementType::kFloat16) return visit(std::type_identity<__half>());
  throw std::invalid_argument(
      "the CUDA engine takes float16 and bfloat16; cast the tensors, or use the CPU engine");
}

// visit(std::integral_constant<int, i>) for the first configuration whose tiles hold `dim`.
template <int kIndex = 0, class Config, int kCount, class Visit>
void with_config(const Config (&configs)[kCount], int dim, Visit visit) {
  if constexpr (kIndex < kCount) {
    if (dim <= configs[kIndex].head_dim) return visit(std::integral_constant<int, kIndex>());
    return with_config<kIndex + 1>(configs, dim, visit);
  } else {
    throw std::invalid_argument("the CUDA engine takes head_dim and value_dim up to " +
                                std::to_string(configs[kCount - 1].head_dim) + ", got " +
                                std::to_string(dim));
  }
}

}  // namespace longattn::cuda
