// SPDX-License-Identifier: BSD-3-Clause
// One rotation and its gradient in tensors of their exact size, and the same by plain loops.
#pragma once

#include <cmath>
#include <memory>

#include "cuda/host/rotary.h"
#include "sanitized/tensors.h"

namespace sanitized {

struct RotationDescription {
  const char* name;
  int64_t batch, q_len, kv_len;
  int32_t q_heads, kv_heads, head_dim, rotary_dim;
  bool interleaved, normalized;
};

template <class Element>
struct RotationSide {
  Tensor<Element> input, result, given, gradient;
  std::vector<float> bias, bias_gradient;
  std::vector<int64_t> positions;

  RotationSide(const RotationDescription& d, int64_t rows, int64_t heads, std::mt19937& random)
      : input(d.batch, rows, heads, d.head_dim),
        result(input),
        given(input),
        gradient(input),
        bias(heads * d.head_dim),
        bias_gradient(heads * d.head_dim, std::nanf("")),
        positions(rows) {
    input.randomize(random);
    given.randomize(random);
    for (float& number : bias) number = static_cast<float>(random() % 256) / 128.0f - 1.0f;
    for (int64_t row = 0; row < rows; ++row) positions[row] = 5 * row + 1000;
  }

  longattn::RotarySide described(const RotationDescription& d, bool backward) {
    longattn::RotarySide side{};
    side.input = input.view();
    side.rotated[0] = backward ? given.view() : result.view();
    side.gradient = backward ? gradient.view() : longattn::TensorView{};
    side.maps[0] = {1.0, 1, 0.0, false};
    side.positions = {positions.data(), 0, 1, 0, false};
    side.scale = {0.5, 0.0, false};
    side.bias = bias.data();
    side.bias_gradient = backward ? bias_gradient.data() : nullptr;
    side.rows = input.rows;
    side.heads = static_cast<int32_t>(input.heads);
    side.normalized = d.normalized;
    return side;
  }
};

template <class Element>
struct Rotation {
  const RotationDescription about;
  std::mt19937 random{7};
  RotationSide<Element> q, k;
  std::vector<double> turns, zeros;

  explicit Rotation(const RotationDescription& d)
      : about(d),
        q(d, d.q_len, d.q_heads, random),
        k(d, d.kv_len, d.kv_heads, random),
        zeros(d.rotary_dim / 2) {
    for (int i = 0; i < d.rotary_dim / 2; ++i) turns.push_back(0.159 / (1 + 3 * i));
  }

  longattn::RotaryProblem problem(bool backward) {
    longattn::RotaryProblem problem{};
    problem.queries = q.described(about, backward);
    problem.keys = k.described(about, backward);
    problem.batch = about.batch;
    problem.head_dim = about.head_dim;
    problem.rotary_dim = about.rotary_dim;
    problem.map_count = 1;
    problem.interleaved = about.interleaved;
    problem.attention_factor = 1.25;
    problem.turns_high = turns.data();
    problem.turns_low = zeros.data();
    return problem;
  }

  void forward_and_backward(longattn::ElementType type) {
    longattn::cuda::rotate(problem(false), type, nullptr);
    longattn::RotaryProblem backward = problem(true);
    std::vector<float> workspace(longattn::cuda::rotate_backward_workspace(backward),
                                 std::nanf(""));
    backward.workspace = workspace.data();
    longattn::cuda::rotate_backward(backward, type, nullptr);
  }

  // The largest distance of results from the loops, relative to the largest number.
  double distance() {
    double worst = 0, largest = 1e-3;
    for (RotationSide<Element>* side : {&q, &k}) {
      std::vector<double> sums(side->bias.size(), 0.0);
      for (int64_t b = 0; b < about.batch; ++b) {
        for (int64_t row = 0; row < side->input.rows; ++row) {
          for (int64_t head = 0; head < side->input.heads; ++head) {
            compare_vector(*side, b, row, head, sums, worst, largest);
          }
        }
      }
      for (size_t i = 0; i < sums.size(); ++i) add(side->bias_gradient[i], sums[i], worst, largest);
    }
    return worst / largest;
  }

 private:
  static void add(double got, double wanted, double& worst, double& largest) {
    largest = std::max(largest, std::fabs(wanted));
    const double away = std::fabs(got - wanted);
    worst = away <= worst ? worst : away;  // NaN stays
  }

  // R of the row's position, or its transpose, times the scale.
  void turn(std::vector<double>& x, int64_t position, double direction) const {
    const int half = about.rotary_dim / 2;
    for (int i = 0; i < half; ++i) {
      const double angle = direction * position * turns[i] * 6.283185307179586;
      double& a = x[about.interleaved ? 2 * i : i];
      double& b = x[about.interleaved ? 2 * i + 1 : half + i];
      const double old_a = a * 1.25, old_b = b * 1.25;
      a = old_a * std::cos(angle) - old_b * std::sin(angle);
      b = old_b * std::cos(angle) + old_a * std::sin(angle);
    }
    for (double& number : x) number *= 0.5;
  }

  void compare_vector(RotationSide<Element>& side, int64_t b, int64_t row, int64_t head,
                      std::vector<double>& sums, double& worst, double& largest) {
    const int dim = about.head_dim;
    std::vector<double> y(dim), gradient(dim);
    double squares = 0, along = 0;
    for (int i = 0; i < dim; ++i) {
      y[i] = static_cast<double>(side.input.at(b, row, head, i)) + side.bias[head * dim + i];
      gradient[i] = static_cast<double>(side.given.at(b, row, head, i));
      squares += y[i] * y[i];
    }
    turn(gradient, side.positions[row], -1);
    const double inverse = about.normalized ? 1 / std::sqrt(squares) : 1;
    for (double& number : y) number *= inverse;
    for (int i = 0; i < dim; ++i) along += y[i] * gradient[i];
    for (int i = 0; i < dim; ++i) {
      if (about.normalized) gradient[i] = (gradient[i] - y[i] * along) * inverse;
      add(side.gradient.at(b, row, head, i), gradient[i], worst, largest);
      sums[head * dim + i] += gradient[i];
    }
    turn(y, side.positions[row], 1);
    for (int i = 0; i < dim; ++i) add(side.result.at(b, row, head, i), y[i], worst, largest);
  }
};

}  // namespace sanitized
