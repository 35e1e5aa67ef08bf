# SPDX-License-Identifier: BSD-3-Clause
"""What a mutation is, the cases and schedules that catch mutations, and how they show."""

import dataclasses

from cases import Case, Dilated
from longattn.masks import Causal, Window

# What a bug shows as.
WRONG = "wrong value"
NAN = "NaN"
CANARY = "broken guard"  # memory beside the tensors has changed
DIVIDED = "divided warp"
DEADLOCK = "deadlock"
RACE = "blocks touch the same memory"
VISITS = "visits of tiles that show nothing"
LEFT_COPIES = "copies that nobody waited for"

# (order of threads, moment at which asynchronous copies land, seed)
PLAIN = ("round_robin", "lazy", 1)
FIRST_AHEAD = ("forward", "lazy", 1)
FIRST_AHEAD_EAGER = ("forward", "eager", 1)
LAST_AHEAD = ("reverse", "lazy", 1)

CASES = {
    case.name: case
    for case in (
        Case("causal", Causal(), 200, q_heads=1, head_dim=64),
        Case("window", Window(70, sink_tokens=3), 260, q_heads=1, head_dim=24, value_dim=40),
        Case("grouped heads", Causal(), 75, batch=2, q_heads=4, kv_heads=2, head_dim=16),
        Case("wide", Causal(), 131, q_heads=1, head_dim=80, value_dim=120),
        Case("slices", Window(9, sink_tokens=5), 500, q_heads=2, head_dim=16, value_dim=8),
        Case("packed", Causal(), q_lengths=(61, 1, 70), kv_lengths=(40, 30, 75), head_dim=16),
        Case("packed slices", Window(9, sink_tokens=70), q_lengths=(500, 10), head_dim=8),
        Case("narrow", Window(20), 100, q_heads=1, head_dim=16),
        Case("negative scale", Window(20), 100, q_heads=1, head_dim=16, softmax_scale=-0.4),
        Dilated("dilated", (32, 64), (1, 2), 131, q_heads=4, kv_heads=2),
        # Heads 2 and 3 look at rows where keys are and no query is.
        Dilated("few queries", (64,), (4,), 2, 254, q_heads=4, kv_heads=1, causal=False),
    )
}

# Sequences whose rows hold nothing but NaN, of which the others must not notice anything.
POISONED = {"packed": (1,)}

# Sizes that change no result, made small so that small cases have many slices.
SHRUNK = {"csrc/cuda/host/backward.cu": ("kQueriesOfSlice = 2048;", "kQueriesOfSlice = 128;")}


@dataclasses.dataclass(frozen=True)
class Mutation:
    name: str
    file: str  # below csrc
    old: str
    new: str
    case: str
    shows_as: str
    schedule: tuple = PLAIN

    def __str__(self):
        return self.name


WALK = "cuda/schedule/walk.h"
KEY_WALK = "cuda/schedule/key_walk.h"
FORWARD = "cuda/forward/sm80/kernel.cuh"
SOFTMAX = "cuda/forward/online_softmax.h"
EPILOGUE = "cuda/forward/epilogue.h"
QUERY_GRADIENT = "cuda/backward/sm80/query_gradient.cuh"
KEY_GRADIENT = "cuda/backward/sm80/key_gradient.cuh"
ROW_DOT = "cuda/row_dot/kernel.cuh"
