// SPDX-License-Identifier: BSD-3-Clause
// One problem: its description, its tensors, and a call of the whole engine.
#pragma once

#include <limits>
#include <memory>

#include "cuda/host/engine.h"
#include "sanitized/tensors.h"

namespace sanitized {

using namespace longattn;

// Causal; a window with sinks if `window` is positive.
struct Description {
  const char* name;
  Split split;
  int64_t batch, q_len, kv_len;
  int32_t q_heads, kv_heads, head_dim, value_dim;
  int32_t window = 0, sinks = 0;
  std::vector<int32_t> q_borders = {}, k_borders = {};  // packed only
  int64_t segment = 1, rate = 1;                        // dilated only
};

template <class Element>
struct Run {
  const Description about;
  int64_t entries;  // of the tensors' first dimension
  Tensor<Element> q, k, v, dout, out;
  Tensor<float> merged, dq, dk, dv;  // merged: out of a dilated problem
  Rows lse, dlse, delta;

  explicit Run(const Description& d)
      : about(d),
        entries(d.split == Split::kPacked ? 1 : d.batch),
        q(entries, d.q_len, d.q_heads, d.head_dim),
        k(entries, d.kv_len, d.kv_heads, d.head_dim),
        v(entries, d.kv_len, d.kv_heads, d.value_dim),
        dout(entries, d.q_len, d.q_heads, d.value_dim),
        out(entries, d.q_len, d.q_heads, d.value_dim),
        merged(entries, d.q_len, d.q_heads, d.value_dim),
        dq(entries, d.q_len, d.q_heads, d.head_dim),
        dk(entries, d.kv_len, d.kv_heads, d.head_dim),
        dv(entries, d.kv_len, d.kv_heads, d.value_dim),
        lse(entries, d.q_heads, d.q_len),
        dlse(entries, d.q_heads, d.q_len),
        delta(entries, d.q_heads, d.q_len) {
    std::mt19937 random(7);
    q.randomize(random);
    k.randomize(random);
    v.randomize(random);
    dout.randomize(random);
    for (float& number : dlse.numbers) number = static_cast<float>(random() % 256) / 128.0f - 1.0f;
    lse.numbers.assign(lse.numbers.size(), -std::numeric_limits<float>::infinity());
  }

  bool merges() const { return about.split == Split::kDilated; }
  double scale() const { return 0.3; }
  int64_t q_start() const { return about.kv_len - about.q_len; }

  float out_at(int64_t batch, int64_t row, int64_t head, int64_t column) {
    return merges() ? merged.at(batch, row, head, column)
                    : static_cast<float>(out.at(batch, row, head, column));
  }

  void forward_and_backward(ElementType type) {
    Problem common{};
    common.q = q.view();
    common.k = k.view();
    common.v = v.view();
    common.layout = {about.split,
                     about.batch,
                     about.q_len,
                     about.kv_len,
                     q_start(),
                     0,
                     about.q_borders.data(),
                     about.k_borders.data(),
                     about.segment,
                     about.rate,
                     HeadOffset::kModulo};
    common.q_heads = about.q_heads;
    common.kv_heads = about.kv_heads;
    common.head_dim = about.head_dim;
    common.value_dim = about.value_dim;
    common.softmax_scale = scale();

    const auto bands = std::make_unique<BandTable>();
    const int32_t left = about.window == 0 ? kUnbounded : about.window - 1;
    bands->bands[0] = {left, about.sinks, 1, {{TermKind::kDiagonal, kUnbounded, 0}}};

    const TensorView out_view = merges() ? merged.view() : out.view();
    cuda::forward({common, out_view, lse.view(), merges(), nullptr}, *bands, type, nullptr);
    cuda::row_dot({dout.view(), out_view, dlse.view(), delta.view(), entries, about.q_len,
                   about.q_heads, about.value_dim, merges()},
                  type, nullptr);
    std::vector<float> workspace(cuda::backward_sizes(common, *bands).workspace,
                                 std::numeric_limits<float>::quiet_NaN());
    cuda::backward({common, dout.view(), lse.view(), delta.view(), dq.view(), dk.view(), dv.view(),
                    BiasGradient{}, workspace.data()},
                   *bands, type, nullptr);
  }
};

}  // namespace sanitized
