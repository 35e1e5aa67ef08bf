# SPDX-License-Identifier: BSD-3-Clause
"""Bugs in who stores what: heads, slices, borders; and warp-wide operations in branches."""

from mutations.mutation import (
    CANARY,
    DIVIDED,
    EPILOGUE,
    FORWARD,
    KEY_GRADIENT,
    QUERY_GRADIENT,
    ROW_DOT,
    WRONG,
    Mutation,
)

HEADS_AND_SLICES = [
    Mutation(
        "dilated heads do not leave their shares",
        KEY_GRADIENT,
        "if (views_differ || i + 1 == group) leave();",
        "if (i + 1 == group) leave();",
        "dilated",
        WRONG,
    ),
    Mutation(
        "dilated heads keep the first head's keys",
        KEY_GRADIENT,
        "if (i == 0 || views_differ) load_keys();",
        "if (i == 0) load_keys();",
        "dilated",
        WRONG,
    ),
    Mutation(
        "heads leave their shares twice",
        KEY_GRADIENT,
        "sums.clear();",
        ";",
        "dilated",
        WRONG,
    ),
    Mutation(
        "slices are rounded down",
        KEY_GRADIENT,
        "(count + slices - 1) / slices",
        "count / slices",
        "window",
        WRONG,
    ),
    Mutation(
        "slices of tiles without sinks stay",
        KEY_GRADIENT,
        "if (slice > 0 && work.first_row >= parameters.sinks.rows) return;",
        ";",
        "slices",
        CANARY,
    ),
    Mutation(
        "slices overlap",
        KEY_GRADIENT,
        "smaller(begin + per_slice, interval.end)",
        "smaller(begin + per_slice + 1, interval.end)",
        "slices",
        WRONG,
    ),
    Mutation(
        "the last slice is lost",
        KEY_GRADIENT,
        "slice < sinks.count",
        "slice < sinks.count - 1",
        "slices",
        WRONG,
    ),
    Mutation(
        "slices leave their shares one place too far",
        KEY_GRADIENT,
        "((slice_ - 1) * parameters_.sinks.sequences + work_.sequence)",
        "(slice_ * parameters_.sinks.sequences + work_.sequence)",
        "slices",
        CANARY,
    ),
    Mutation(
        "shares of dk and dv lie in one place",
        "cuda/host/backward.cu",
        "workspace + shares * problem.head_dim",
        "workspace",
        "slices",
        WRONG,
    ),
]

STORES = [
    Mutation(
        "rows beyond the sequence are stored",
        FORWARD,
        "exists ? problem_.value_dim : 0",
        "problem_.value_dim",
        "causal",
        CANARY,
    ),
    Mutation(
        "dims beyond value_dim are stored",
        EPILOGUE,
        "if (column >= width) continue;",
        ";",
        "window",
        CANARY,
    ),
    Mutation(
        "dq of rows beyond the sequence is stored",
        QUERY_GRADIENT,
        "row < sequence.q_len ? problem_.head_dim : 0",
        "problem_.head_dim",
        "causal",
        CANARY,
    ),
    Mutation(
        "dk of keys beyond the sequence is stored",
        KEY_GRADIENT,
        "key < sequence.k_len ? dim : 0",
        "dim",
        "causal",
        CANARY,
    ),
    Mutation(
        "shares of keys beyond the sequence are added",
        KEY_GRADIENT,
        "if (key >= sequence.k_len) return;",
        ";",
        "packed slices",
        CANARY,
    ),
    Mutation(
        "delta of rows that do not exist is stored",
        ROW_DOT,
        "if (!exists || lane != 0) return;",
        "if (lane != 0) return;",
        "wide",
        CANARY,
    ),
]

COLLECTIVES = [
    Mutation(
        "lanes whose row exists add up their sums alone",
        FORWARD,
        "softmax_.finish_row(half, scores_.factor())",
        "exists ? softmax_.finish_row(half, scores_.factor()) : Finished<float>{}",
        "wide",
        DIVIDED,
    ),
    Mutation(
        "lanes shuffle in a branch",
        ROW_DOT,
        "sum += ptx::shuffle_xor(sum, distance);",
        "if (lane < distance) sum += ptx::shuffle_xor(sum, distance);",
        "causal",
        DIVIDED,
    ),
]
