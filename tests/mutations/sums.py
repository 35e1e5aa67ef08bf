# SPDX-License-Identifier: BSD-3-Clause
"""Bugs in what is summed up: softmax, merging, gradients, delta."""

from mutations.mutation import (
    EPILOGUE,
    FORWARD,
    KEY_GRADIENT,
    NAN,
    QUERY_GRADIENT,
    ROW_DOT,
    SOFTMAX,
    WRONG,
    Mutation,
)

SUMS = [
    Mutation("scores are not scaled", FORWARD, "score *= scale_;", ";", "causal", WRONG),
    Mutation(
        "out is not shrunk", SOFTMAX, "out.values[block][i] *= shrink[i / 2];", ";", "causal", WRONG
    ),
    Mutation("the sum is not shrunk", SOFTMAX, "sum_[half] *= shrink[half];", ";", "causal", WRONG),
    Mutation(
        "rows that see nothing yet subtract infinity",
        SOFTMAX,
        "exponent_reference(max)",
        "max",
        "narrow",
        NAN,
    ),
    Mutation(
        "two lanes of four find the maximum",
        SOFTMAX,
        "return fmaxf(value, ptx::shuffle_xor(value, 2));",
        "return value;",
        "causal",
        WRONG,
    ),
    Mutation(
        "lse is in log2 units",
        EPILOGUE,
        "return {0.0f, finished.out_factor, finished.lse};",
        "return {0.0f, finished.out_factor, finished.lse * 1.44269504f};",
        "causal",
        WRONG,
    ),
    Mutation(
        "merging forgets the old lse",
        EPILOGUE,
        "merge_weights(old_lse, finished.lse)",
        "merge_weights(-INFINITY, finished.lse)",
        "dilated",
        WRONG,
    ),
    Mutation(
        "lanes of a row merge with different lse",
        FORWARD,
        "exists ? Epilogue::read_lse(lse) : -INFINITY",
        "exists && lane_ % 4 == 0 ? Epilogue::read_lse(lse) : -INFINITY",
        "dilated",
        WRONG,
    ),
    Mutation(
        "out forgets the old partial",
        "cuda/tiles/store.h",
        "old_factor * old[block].x",
        "0.0f",
        "dilated",
        WRONG,
    ),
    Mutation(
        "dq ignores delta",
        QUERY_GRADIENT,
        "(dp.values[block][i] - delta_[i / 2])",
        "dp.values[block][i]",
        "causal",
        WRONG,
    ),
    Mutation(
        "dq is not scaled",
        QUERY_GRADIENT,
        "add_half(dq, width, dq_, half, scale, lane_);",
        "add_half(dq, width, dq_, half, 1.0f, lane_);",
        "causal",
        WRONG,
    ),
    Mutation(
        "dk ignores delta",
        KEY_GRADIENT,
        "dp.values[block][i] - stage.delta[column]",
        "dp.values[block][i]",
        "causal",
        WRONG,
    ),
    Mutation(
        "dk is not scaled",
        KEY_GRADIENT,
        "leave(dk_, problem_.dk, parameters_.sinks.dk, problem_.head_dim, scale);",
        "leave(dk_, problem_.dk, parameters_.sinks.dk, problem_.head_dim, 1.0f);",
        "causal",
        WRONG,
    ),
    Mutation(
        "dk takes lse for log2 units",
        KEY_GRADIENT,
        "weight_reference(lse)",
        "lse",
        "causal",
        WRONG,
    ),
    Mutation("delta forgets the gradient of lse", ROW_DOT, "sum - dlse", "sum", "causal", WRONG),
    Mutation(
        "delta sums half of the lanes", ROW_DOT, "distance > 0", "distance > 1", "causal", WRONG
    ),
    Mutation(
        "delta takes in dims beyond value_dim",
        ROW_DOT,
        "exists && lane * 8 < problem.value_dim",
        "exists",
        "window",
        NAN,
    ),
]
