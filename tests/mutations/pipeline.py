# SPDX-License-Identifier: BSD-3-Clause
"""Bugs in who waits for whom, and in which stage of shared memory holds what."""

from mutations.mutation import (
    DEADLOCK,
    FORWARD,
    KEY_GRADIENT,
    KEY_WALK,
    NAN,
    THREAD_RACE,
    WALK,
    Mutation,
)

# The heart of the walk: every thread's copies have landed, and only then a stage is filled again.
MEET = "ptx::synchronize_block();        // and everyone's; and no warp still reads tile i - 1,\n"
REFILL = "    if (i + 1 < count) load(i + 1);  // whose stage is filled again"
WAIT = "ptx::cp_async_wait<0>();         // this thread's part of tile i has landed,"

PIPELINE = [
    Mutation("tiles are not waited for", WALK, WAIT, ";", "causal", THREAD_RACE),
    Mutation(
        "tiles are waited for one group less",
        WALK,
        WAIT,
        "ptx::cp_async_wait<1>();",
        "wide",
        THREAD_RACE,
    ),
    Mutation("warps read what others copy", WALK, MEET + REFILL, REFILL, "causal", THREAD_RACE),
    Mutation(
        "stages are filled while others read them",
        WALK,
        MEET + REFILL,
        REFILL + "\n" + MEET,
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "a warp meets at another barrier",
        WALK,
        MEET + REFILL,
        "if (threadIdx.x < 32) ptx::bar_sync(1, 64); else ptx::synchronize_block();\n" + REFILL,
        "causal",
        DEADLOCK,
    ),
    Mutation(
        "a warp of forward without rows leaves early",
        FORWARD,
        "load_row_bounds();",
        "if (tile_.first_row + warp_row_ >= tile_.sequence.q_len) return; load_row_bounds();",
        "causal",
        NAN,
    ),
    Mutation(
        "warps do not wait for their tile of queries",
        "cuda/schedule/query_tile.h",
        "ptx::synchronize_block();  // every thread sees the tile",
        ";",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "keys are read in the other stage",
        KEY_WALK,
        "visit(index % kStages, tile.keys[index])",
        "visit((index + 1) % kStages, tile.keys[index])",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "keys fill one stage",
        KEY_WALK,
        "load(stages[index % kStages], first_key)",
        "load(stages[0], first_key)",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "queries are read in the other stage",
        KEY_GRADIENT,
        "visit(shared_.stages[index % kStages], is_full(tiles.interval, tiles.begin + index))",
        "visit(shared_.stages[(index + 1) % kStages], "
        "is_full(tiles.interval, tiles.begin + index))",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "queries fill one stage",
        KEY_GRADIENT,
        "load_queries(shared_.stages[index % kStages], tiles.begin + index)",
        "load_queries(shared_.stages[0], tiles.begin + index)",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "lse is replaced before all lanes of its row have read it",
        FORWARD,
        "ptx::synchronize_warp();  // the four lanes of the row have read the old lse",
        ";",
        "dilated",
        THREAD_RACE,
    ),
    Mutation(
        "dk does not wait for its work",
        KEY_GRADIENT,
        "ptx::synchronize_block();  // every thread sees the work",
        ";",
        "slices",
        THREAD_RACE,
    ),
    Mutation(
        "dk does not wait for the sequence",
        KEY_GRADIENT,
        "ptx::synchronize_block();  // every thread sees the sequence of this head",
        ";",
        "causal",
        THREAD_RACE,
    ),
    Mutation(
        "dk does not wait before the next head",
        KEY_GRADIENT,
        "ptx::synchronize_block();  // the next head replaces the sequence and the tiles",
        ";",
        "dilated",
        THREAD_RACE,
    ),
    Mutation(
        "nothing waits for keys that no query sees",
        WALK,
        "ptx::cp_async_wait<0>();  // nothing may land in shared memory after the block has ended",
        ";",
        "few queries",
        THREAD_RACE,
    ),
]
