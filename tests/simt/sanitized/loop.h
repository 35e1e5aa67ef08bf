// SPDX-License-Identifier: BSD-3-Clause
// The same problem by plain loops over all pairs in double, and how far the engine is from it.
#pragma once

#include <algorithm>
#include <cmath>

#include "sanitized/run.h"

namespace sanitized {

inline int64_t sequence_of(const std::vector<int32_t>& borders, int64_t row) {
  int64_t sequence = 0;
  while (borders[sequence + 1] <= row) ++sequence;
  return sequence;
}

// Does query row i of this head see key row j? From the definitions, not from bands.
inline bool visible(const Description& d, int64_t head, int64_t i, int64_t j) {
  int64_t position = i + d.kv_len - d.q_len;  // of the query, where keys begin at 0
  if (d.split == Split::kPacked) {
    const int64_t sequence = sequence_of(d.q_borders, i);
    if (sequence != sequence_of(d.k_borders, j)) return false;
    position = i - d.q_borders[sequence + 1] + d.k_borders[sequence + 1] - d.k_borders[sequence];
    j -= d.k_borders[sequence];
  }
  if (d.split == Split::kDilated) {
    const auto residue = [&](int64_t at) { return at % d.segment % d.rate; };
    if (position / d.segment != j / d.segment) return false;
    if (residue(position) != head % d.rate || residue(j) != head % d.rate) return false;
  }
  return j <= position && (d.window == 0 || position - j < d.window || j < d.sinks);
}

// The largest distance of each result from the loops, relative to the result's largest number.
struct Distance {
  double worst = 0, largest = 1e-3;

  void add(double got, double wanted) {
    largest = std::max(largest, std::fabs(wanted));
    const double away = std::fabs(got - wanted);
    worst = away <= worst ? worst : away;  // NaN stays
  }
  double relative() const { return worst / largest; }
};

struct Distances {
  Distance out, lse, dq, dk, dv;
};

template <class Element>
struct Loop {
  Run<Element>& run;
  const Description& about = run.about;
  Tensor<double> dq{run.entries, about.q_len, about.q_heads, about.head_dim};
  Tensor<double> dk{run.entries, about.kv_len, about.kv_heads, about.head_dim};
  Tensor<double> dv{run.entries, about.kv_len, about.kv_heads, about.value_dim};
  Distances found = {};

  template <class Left, class Right>
  static double dot(const Left* left, const Right* right, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; ++i) {
      sum += static_cast<double>(left[i]) * static_cast<double>(right[i]);
    }
    return sum;
  }

  void visit_row(int64_t batch, int64_t head, int64_t i) {
    const int64_t kv_head = head / (about.q_heads / about.kv_heads);
    std::vector<int64_t> keys;
    std::vector<double> weights;
    for (int64_t j = 0; j < about.kv_len; ++j) {
      if (visible(about, head, i, j)) keys.push_back(j);
    }
    double sum = 0;
    for (int64_t j : keys) {
      const double score = run.scale() * dot(&run.q.at(batch, i, head, 0),
                                             &run.k.at(batch, j, kv_head, 0), about.head_dim);
      weights.push_back(std::exp(score));
      sum += weights.back();
    }
    const float lse = run.lse.at(batch, head, i);
    if (keys.empty()) {
      found.lse.add(lse == -INFINITY ? 0 : NAN, 0);
    } else {
      found.lse.add(lse, std::log(sum));
    }
    std::vector<double> out(about.value_dim, 0.0);
    for (size_t n = 0; n < keys.size(); ++n) {
      weights[n] /= sum;
      for (int64_t c = 0; c < about.value_dim; ++c) {
        out[c] += weights[n] * run.v.at(batch, keys[n], kv_head, c);
      }
    }
    for (int64_t c = 0; c < about.value_dim; ++c) {
      found.out.add(run.out_at(batch, i, head, c), out[c]);
    }
    const auto* dout = &run.dout.at(batch, i, head, 0);
    const double delta = dot(dout, out.data(), about.value_dim) - run.dlse.at(batch, head, i);
    for (size_t n = 0; n < keys.size(); ++n) {
      const int64_t j = keys[n];
      const double dp = dot(dout, &run.v.at(batch, j, kv_head, 0), about.value_dim);
      const double ds = weights[n] * (dp - delta) * run.scale();
      for (int64_t c = 0; c < about.head_dim; ++c) {
        dq.at(batch, i, head, c) += ds * run.k.at(batch, j, kv_head, c);
        dk.at(batch, j, kv_head, c) += ds * run.q.at(batch, i, head, c);
      }
      for (int64_t c = 0; c < about.value_dim; ++c) {
        dv.at(batch, j, kv_head, c) += weights[n] * dout[c];
      }
    }
  }

  Distances compare() {
    for (int64_t batch = 0; batch < run.entries; ++batch) {
      for (int64_t head = 0; head < about.q_heads; ++head) {
        for (int64_t i = 0; i < about.q_len; ++i) visit_row(batch, head, i);
      }
    }
    const auto add_all = [](Distance& distance, const auto& got, const auto& wanted) {
      for (size_t n = 0; n < wanted.size(); ++n) distance.add(got[n], wanted[n]);
    };
    add_all(found.dq, run.dq.numbers, dq.numbers);
    add_all(found.dk, run.dk.numbers, dk.numbers);
    add_all(found.dv, run.dv.numbers, dv.numbers);
    return found;
  }
};

}  // namespace sanitized
