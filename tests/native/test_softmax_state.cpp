// SPDX-License-Identifier: BSD-3-Clause
// The algebra of partial softmaxes: finishing and merging agree with the plain formula, and rows
// that see nothing stay 0 and -inf through every operation.
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "semantics/softmax_state.h"

namespace {

using namespace longattn;

int failures = 0;

void expect(const char* what, double got, double wanted, double tolerance = 1e-12) {
  const bool equal = got == wanted || std::fabs(got - wanted) <= tolerance;
  if (equal && !std::isnan(got)) return;
  std::printf("FAILED: %s: got %.17g, wanted %.17g\n", what, got, wanted);
  ++failures;
}

void expect_nan(const char* what, float got) {
  if (std::isnan(got)) return;
  std::printf("FAILED: %s: got %g, wanted NaN\n", what, got);
  ++failures;
}

}  // namespace

int main() {
  constexpr double kEmpty = -INFINITY;

  // Two scores, log2 units: 2^3 and 2^1.
  const Finished<double> finished = finish(SoftmaxState<double>{3.0, 1.0 + 0.25}, kEmpty);
  expect("out factor", finished.out_factor, 0.8);
  expect("lse", finished.lse, std::log(8.0 + 2.0));

  // With a sink of logit ln 6, whose value is 0: 8 / 16 and 2 / 16 are the weights of the keys.
  const auto with_sink = finish(SoftmaxState<double>{3.0, 1.0 + 0.25}, std::log(6.0));
  expect("out factor with a sink", with_sink.out_factor, 8.0 / 16.0);
  expect("lse with a sink", with_sink.lse, std::log(16.0));
  const auto sink_alone = finish(SoftmaxState<double>{kEmpty, 0.0}, -2.5);
  expect("out factor of a sink alone", sink_alone.out_factor, 0.0);
  expect("lse of a sink alone", sink_alone.lse, -2.5);

  const Finished<float> nothing = finish(SoftmaxState<float>{-INFINITY, 0.0f}, -INFINITY);
  expect("empty out factor", nothing.out_factor, 0.0);
  expect("empty lse", nothing.lse, kEmpty);
  expect("empty reference", exponent_reference(-INFINITY), 0.0);
  expect("weights of an empty row", std::exp2(5.0 - weight_reference(kEmpty)), 0.0);
  expect("weight", std::exp2(2.0 - weight_reference(std::log(16.0))), 0.25);

  // lse ln 3 and 0: shares 3/4 and 1/4 (the worked example of the merge).
  const MergeWeights<double> merged = merge_weights(std::log(3.0), 0.0);
  expect("first share", merged.first, 0.75);
  expect("second share", merged.second, 0.25);
  expect("merged lse", merged.lse, std::log(4.0));

  const MergeWeights<double> right_empty = merge_weights(1.5, kEmpty);
  expect("merged with an empty partial", right_empty.first, 1.0);
  expect("share of the empty partial", right_empty.second, 0.0);
  expect("lse unchanged", right_empty.lse, 1.5);
  const MergeWeights<double> left_empty = merge_weights(kEmpty, -7.0);
  expect("empty partial merged", left_empty.second, 1.0);
  expect("lse taken over", left_empty.lse, -7.0);
  const MergeWeights<float> both_empty = merge_weights(-INFINITY, -INFINITY);
  expect("both empty", both_empty.first + both_empty.second, 0.0);
  expect("both empty lse", both_empty.lse, kEmpty);

  // NaN is not emptiness, on either side.
  expect_nan("NaN merged into nothing", merge_weights(-INFINITY, NAN).lse);
  expect_nan("nothing merged into NaN", merge_weights(NAN, -INFINITY).lse);
  expect_nan("scores of NaN", finish(SoftmaxState<float>{-INFINITY, NAN}, -INFINITY).lse);

  // Far apart: no overflow, no NaN.
  const MergeWeights<float> far = merge_weights(3e38f, -3e38f);
  expect("far apart", far.first, 1.0);
  expect("far apart lse", far.lse, 3e38f);

  std::printf("%d failures\n", failures);
  return failures != 0;
}
