# SPDX-License-Identifier: BSD-3-Clause
"""Bugs in who waits for whom, and in which stage of shared memory holds what."""

from mutations.mutation import (
    ANY_MOMENT,
    DEADLOCK,
    DIVIDED,
    FIRST_AHEAD,
    FIRST_AHEAD_EAGER,
    FORWARD,
    KEY_GRADIENT,
    LAST_AHEAD,
    LAST_AHEAD_EAGER,
    NAN,
    QUERY_GRADIENT,
    WRONG,
    Mutation,
)

LANDED = "ptx::synchronize_block();  // and so have the copies of the other threads"
LANDED_OF_FORWARD = "ptx::synchronize_block();  // so every thread waits for every thread's copies"
LANDED_OF_KEYS = (
    "ptx::synchronize_block();  // and so have the copies and rows of the other threads"
)
READ_BY_ALL = (
    "ptx::synchronize_block();  // no warp still reads the stage that the next copies overwrite"
)
WAIT_OF_FORWARD = (
    "ptx::cp_async_wait<1>();   // all but the newest group: tile i has landed, in part by others,"
)
WAIT_OF_QUERIES = "ptx::cp_async_wait<1>();   // all but the newest group: tile i has landed"
WAIT_OF_KEYS = "ptx::cp_async_wait<1>();   // all but the newest group: this tile has landed"

PIPELINE = [
    Mutation("forward does not wait", FORWARD, WAIT_OF_FORWARD, ";", "causal", NAN),
    Mutation(
        "forward waits for one group less",
        FORWARD,
        WAIT_OF_FORWARD,
        "ptx::cp_async_wait<2>();",
        "causal",
        NAN,
    ),
    Mutation(
        "forward reads what others copy",
        FORWARD,
        LANDED_OF_FORWARD,
        ";",
        "causal",
        NAN,
        FIRST_AHEAD,
    ),
    Mutation(
        "forward refills what others read",
        FORWARD,
        READ_BY_ALL,
        ";",
        "causal",
        WRONG,
        FIRST_AHEAD_EAGER,
    ),
    Mutation(
        "a warp of forward meets at another barrier",
        FORWARD,
        LANDED_OF_FORWARD,
        "if (warp_row_ == 0) ptx::bar_sync(1, kThreads); else ptx::synchronize_block();",
        "causal",
        DEADLOCK,
    ),
    Mutation(
        "a warp of forward without rows leaves early",
        FORWARD,
        "load_row_bounds();",
        "if (first_row_ + warp_row_ >= sequence_.q_len) return; load_row_bounds();",
        "causal",
        NAN,
    ),
    Mutation(
        "forward reads the other stage",
        FORWARD,
        "shared_.stages[i % kConfig.stages]",
        "shared_.stages[(i + 1) % kConfig.stages]",
        "causal",
        NAN,
    ),
    Mutation(
        "forward fills one stage",
        FORWARD,
        "shared_.stages[index % kConfig.stages]",
        "shared_.stages[0]",
        "causal",
        NAN,
    ),
    Mutation("dq does not wait", QUERY_GRADIENT, WAIT_OF_QUERIES, ";", "causal", NAN),
    Mutation("dq reads what others copy", QUERY_GRADIENT, LANDED, ";", "causal", NAN, LAST_AHEAD),
    Mutation(
        "dq refills what others read",
        QUERY_GRADIENT,
        READ_BY_ALL,
        ";",
        "causal",
        WRONG,
        LAST_AHEAD_EAGER,
    ),
    Mutation("dk does not wait", KEY_GRADIENT, WAIT_OF_KEYS, ";", "causal", NAN),
    Mutation(
        "dk waits for one group less",
        KEY_GRADIENT,
        WAIT_OF_KEYS,
        "ptx::cp_async_wait<2>();",
        "wide",
        NAN,
    ),
    Mutation(
        "dk reads what others copy", KEY_GRADIENT, LANDED_OF_KEYS, ";", "causal", NAN, FIRST_AHEAD
    ),
    Mutation(
        "dk refills what others read",
        KEY_GRADIENT,
        READ_BY_ALL,
        ";",
        "causal",
        WRONG,
        LAST_AHEAD_EAGER,
    ),
    Mutation(
        "dk uses one stage",
        KEY_GRADIENT,
        "(tile - tiles.begin) % kConfig.stages",
        "0",
        "causal",
        WRONG,
    ),
    Mutation(
        "dk does not wait for the sequence",
        KEY_GRADIENT,
        "ptx::synchronize_block();  // every thread sees the sequence of this head",
        ";",
        "causal",
        DIVIDED,
        LAST_AHEAD,
    ),
    Mutation(
        "dk does not wait before the next head",
        KEY_GRADIENT,
        "ptx::synchronize_block();  // the next head replaces the sequence and the tiles",
        ";",
        "dilated",
        WRONG,
        FIRST_AHEAD,
    ),
    Mutation(
        "dk does not wait for keys that no query sees",
        KEY_GRADIENT,
        "ptx::cp_async_wait<0>();  // of a slice without queries too: its keys may be on their way",
        ";",
        "few queries",
        WRONG,
        ANY_MOMENT,
    ),
]
