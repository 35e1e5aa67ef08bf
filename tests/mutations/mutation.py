# SPDX-License-Identifier: BSD-3-Clause
"""What a mutation is, the cases that catch mutations, and how they show."""

import dataclasses
from typing import Optional

from cases import Case, Dilated
from longattn.masks import Causal, Window
from rotary_cases import FLAT, NEAR, Rotation

# What a bug shows as.
WRONG = "wrong value"
NAN = "NaN"
CANARY = "broken guard"  # memory beside the tensors has changed
DIVIDED = "divided warp"
DEADLOCK = "deadlock"
RACE = "blocks touch the same memory"
THREAD_RACE = "threads race"
MISALIGNED = "an address that is no multiple"
VISITS = "visits of tiles that show nothing"

CASES = {
    case.name: case
    for case in (
        Case("causal", Causal(), 200, q_heads=1, head_dim=64),
        Case("window", Window(70, sink_tokens=3), 260, q_heads=1, head_dim=24, value_dim=40),
        Case("grouped heads", Causal(), 75, batch=2, q_heads=4, kv_heads=2, head_dim=16),
        Case("wide", Causal(), 131, q_heads=1, head_dim=80, value_dim=120),
        Case("slices", Window(9, sink_tokens=5), 500, q_heads=2, head_dim=16, value_dim=8),
        Case("packed", Causal(), q_lengths=(61, 1, 70), kv_lengths=(40, 30, 75), head_dim=16),
        # Two sequences have several slices; one of these has less keys than there are sink rows.
        Case(
            "packed slices",
            Window(9, sink_tokens=70),
            q_lengths=(300, 10, 290),
            kv_lengths=(300, 10, 45),
            head_dim=8,
        ),
        Case("narrow", Window(20), 100, q_heads=1, head_dim=16),
        Case("negative scale", Window(20), 100, q_heads=1, head_dim=16, softmax_scale=-0.4),
        Dilated("dilated", (32, 64), (1, 2), 131, q_heads=4, kv_heads=2),
        # Heads 2 and 3 look at rows where keys are and no query is.
        Dilated("few queries", (64,), (4,), 2, 254, q_heads=4, kv_heads=1, causal=False),
    )
}


@dataclasses.dataclass(frozen=True)
class Scored:
    """A case with learned parameters of the scores; tests/test_scores.py knows the biases."""

    case: Case
    bias: Optional[str] = None
    softcap: Optional[float] = None
    sinks: bool = False
    pattern: Optional[str] = None  # of test_scores.py, in the place of attention


_SHORT = dict(q_heads=4, kv_heads=2, head_dim=16)
SCORED = {
    "biased": Scored(Case("biased", Causal(), 150, 170, **_SHORT), "table, two sides"),
    "biased in turn": Scored(Case("in turn", Window(80), 150, batch=3, **_SHORT), "alibi learned"),
    "biased slices": Scored(Case("slices", Window(70), 600, **_SHORT), "alibi learned"),
    "biased residues": Scored(Case("residues", Causal(), 133, 140, **_SHORT), pattern="dilated"),
    "biased, packed": Scored(
        Case("packed", Causal(), q_lengths=(40, 300, 1, 0), kv_lengths=(50, 300, 9, 20), **_SHORT),
        "table, two sides",
    ),
    "capped": Scored(Case("capped", Causal(), 130, **_SHORT), softcap=1.5),
    "wide cap": Scored(Case("wide cap", Causal(), 130, **_SHORT), softcap=200.0),
    "sinks": Scored(Case("sinks", Window(20), 70, **_SHORT), sinks=True),
}
ROTATIONS = {
    case.name: case
    for case in (
        Rotation("rotated", q_len=21, batch=2, head_dim=64, q_heads=3),
        Rotation("rotated neighbours", interleaved=True, biases="qk"),
        Rotation("rotated in part", head_dim=64, rotary_dim=20, positions="shared"),
        Rotation("rotated, two positions", positions="pair", q_len=11, kv_len=31),
        Rotation("rotated twice", maps=(NEAR, FLAT), head_dim=64),
        Rotation("rotated flat", maps=(FLAT,)),
        Rotation("normalized", key_norm="both", biases="qk", q_len=137, head_dim=64),
        Rotation("normalized alone", key_norm="both", q_len=21, head_dim=64),
        Rotation("grown", xpos=True, interleaved=True, q_len=311, positions="shared"),
    )
}
CASES |= SCORED | ROTATIONS

# Sequences whose rows hold nothing but NaN, of which the others must not notice anything.
POISONED = {"packed": (1,)}

# Sizes that change no result, made small so that small cases have many slices.
SHRUNK = {
    "csrc/cuda/host/backward.cu": (
        ("kQueriesOfSlice = 2048;", "kQueriesOfSlice = 128;"),
        ("kQueriesOfSliceByRow = 4;", "kQueriesOfSliceByRow = 1;"),
        ("kQueriesOfBiasShare = 1024;", "kQueriesOfBiasShare = 128;"),
        ("kBlocksOfPackedBias = 8192;", "kBlocksOfPackedBias = 1;"),
    ),
    "csrc/cuda/rotary/parameters.h": (("kMaxBiasSlices = 256;", "kMaxBiasSlices = 2;"),),
}


@dataclasses.dataclass(frozen=True)
class Mutation:
    name: str
    file: str  # below csrc
    old: str
    new: str
    case: str
    shows_as: str

    def __str__(self):
        return self.name


WALK = "cuda/schedule/walk.h"
KEY_WALK = "cuda/schedule/key_walk.h"
KEY_WORK = "cuda/schedule/key_work.h"
FORWARD = "cuda/forward/sm80/kernel.cuh"
SOFTMAX = "cuda/forward/online_softmax.h"
EPILOGUE = "cuda/forward/epilogue.h"
QUERY_GRADIENT = "cuda/backward/sm80/query_gradient.cuh"
KEY_GRADIENT = "cuda/backward/sm80/key_gradient.cuh"
LONGEST = "cuda/schedule/longest_sequence.cuh"
BIAS_GRADIENT = "cuda/backward/sm80/bias_gradient.cuh"
ROW_DOT = "cuda/row_dot/kernel.cuh"
GENERAL = "cuda/scores/general.h"
HOST_SCORES = "cuda/host/scores.h"
ROTARY = "cuda/rotary/kernel.cuh"
ROTARY_TABLE = "cuda/rotary/table.cuh"
ROTARY_UNIT = "cuda/rotary/unit.cuh"
ROTARY_HOST = "cuda/host/rotary.cu"
ADD_BIASES = "cuda/rotary/add_biases.cuh"
