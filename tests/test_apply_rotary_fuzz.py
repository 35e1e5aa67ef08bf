# SPDX-License-Identifier: BSD-3-Clause
"""Random rotations against the float64 reference; the seed is fixed."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rotary_cases
from longattn import LogN
from longattn.rope import DynamicNTK, Linear, YaRN
from longattn.rotary import PositionMap
from rotary_cases import Rotation

LENGTHS = st.sampled_from([0, 1, 2, 7, 15, 16, 17, 33, 64, 67])
SCALES = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0, 0.5, 1 / 3, 1 / 4096])
MAPS = st.builds(PositionMap, SCALES, SCALES | st.just(2.0**41), st.booleans())
PAIRED = ("pair", "pair of rows")  # the kinds of positions for two lengths


@st.composite
def rotations(draw, dims=st.integers(1, 70).map(lambda half: 2 * half)):
    head_dim = draw(dims)
    xpos = head_dim > 2 and draw(st.integers(0, 5)) == 0
    interleaved = draw(st.booleans())
    packed = draw(st.booleans())
    q_len = draw(LENGTHS)
    one_length = draw(st.booleans())
    kinds = ["none"]
    if one_length:
        kinds += ["shared", "far", "negative", "between"]
        kinds += [] if packed else ["one row"]
        kinds += [] if packed or xpos else ["batch", "strided"]  # too far apart for float16
    else:
        kinds = ["pair"] if packed else [*kinds, *PAIRED]
    kv_heads = draw(st.integers(1, 3))
    rotary_dim = (
        None if xpos else draw(st.none() | st.integers(1, head_dim // 2).map(lambda i: 2 * i))
    )
    scalings = st.sampled_from([None, Linear(3.0), YaRN(8.0), DynamicNTK(2.0)])
    scaling = None if xpos or head_dim == 2 or rotary_dim == 2 else draw(scalings)
    q_scale = draw(st.none() | st.floats(-3, 3) | st.builds(LogN, st.integers(2, 99)))
    if packed and one_length and (isinstance(q_scale, LogN) or isinstance(scaling, DynamicNTK)):
        kinds.remove("none")  # which would be refused
    return Rotation(
        name=draw(st.sampled_from("abcdef")),
        q_len=q_len,
        kv_len=None if one_length else draw(LENGTHS),
        batch=draw(st.integers(0, 3)),
        q_heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=rotary_dim,
        interleaved=interleaved,
        packed=packed,
        positions=draw(st.sampled_from(kinds)),
        biases=draw(st.sampled_from(["", "q", "k", "qk"])),
        key_norm=draw(st.sampled_from([False, True, "query", "both"])),
        q_scale=q_scale,
        maps=() if xpos else draw(st.just(()) | st.lists(st.tuples(MAPS, MAPS), min_size=1,
                                                         max_size=4).map(tuple)),
        scaling=scaling,
        xpos=xpos,
        transposed=draw(st.booleans()),
    )  # fmt: skip


def slack_of(case, dtype) -> float:
    """Among many tiny calls there are some in which eager code is exact by luck: one step of the
    dtype is always permitted, in the sums of a bias's gradient one for each of a few rows."""
    return 0.0 if dtype == torch.float64 else 4 * torch.finfo(dtype).eps


@given(rotations(), st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
@settings(max_examples=250)
def test_any_rotation(case, dtype):
    rotary_cases.compare(case, dtype, slack=slack_of(case, dtype))
