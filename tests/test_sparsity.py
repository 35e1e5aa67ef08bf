# SPDX-License-Identifier: BSD-3-Clause
"""Sparse is proven, not assumed: the engine visits exactly the tiles that hold a visible pair."""

import pytest
import torch

import inputs
import longattn
from cases import DILATED, SMALL, Case
from longattn import native, reference
from longattn.masks import Band, Causal, Full, Groups, Window

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def dtype_name(dtype):
    return str(dtype).removeprefix("torch.")


def tiles_with_a_visible_pair(shown, tile_sizes) -> int:
    """How many tiles of a bool matrix [q_len, kv_len] hold a True, by cutting it up."""
    queries, keys = tile_sizes
    return sum(
        bool(tile.any()) for rows in shown.split(queries) for tile in rows.split(keys, dim=1)
    )


def expected_visits(case, dtype) -> int:
    """Tiles of all sequences and heads, from the definition of the mask."""
    total = 0
    for sequence, (q_len, kv_len) in enumerate(case.sequences):
        if q_len == 0 or kv_len == 0:
            continue
        q_start, k_start = case.positions(sequence)
        i, j = q_start + torch.arange(q_len), k_start + torch.arange(kv_len)
        for head in range(case.q_heads):
            shown = reference.visible(case.mask, i, j, head)
            total += tiles_with_a_visible_pair(shown, native.tile_sizes(dtype))
    return total


def visits(function, *arguments, **keywords) -> int:
    native.visited_tiles()  # forget what was counted before
    with torch.no_grad():
        function(*arguments, **keywords)
    return native.visited_tiles()


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_visited_tiles_are_the_visible_ones(case):
    tensors = inputs.qkv(case, torch.float32)
    counted = visits(longattn.attention, *tensors, case.mask, **inputs.call_arguments(case))
    assert counted == expected_visits(case, torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_every_dtype_skips(dtype):
    case = Case("skip", Window(40, sink_tokens=3), 500, 700, q_heads=2)
    counted = visits(
        longattn.attention, *inputs.qkv(case, dtype), case.mask, **inputs.call_arguments(case)
    )
    assert counted == expected_visits(case, dtype)


@pytest.mark.parametrize("case", DILATED, ids=str)
def test_dilated_visits_its_residues_only(case):
    """A branch is a band over the rows of one residue: the zeros between are never touched."""
    kv_len = case.k_shape[1]
    q_start = case.k_start + kv_len - case.q_len if case.q_start is None else case.q_start
    i, j = q_start + torch.arange(case.q_len), case.k_start + torch.arange(kv_len)
    sizes = native.tile_sizes(torch.float32)
    expected = 0
    for w, r in zip(case.segment_lengths, case.dilation_rates):
        for head in range(case.q_heads):
            blocks = -(-case.q_heads // r)
            offset = head % r if case.head_offset == "mod" else head // blocks
            for segment in torch.cat((i, j)).div(w, rounding_mode="floor").unique().tolist():
                rows, keys = (x[(x // w == segment) & (x % w % r == offset)] for x in (i, j))
                shown = torch.ones(len(rows), len(keys), dtype=torch.bool)
                if case.causal:
                    shown = rows[:, None] >= keys
                if shown.numel():
                    expected += tiles_with_a_visible_pair(shown, sizes)
    counted = visits(
        longattn.dilated_attention,
        *inputs.qkv(case, torch.float32),
        case.segment_lengths,
        case.dilation_rates,
        causal=case.causal,
        head_offset=case.head_offset,
        q_start=case.q_start,
        k_start=case.k_start,
    )
    assert counted == case.batch * expected


def long_visits(function, length, **arguments) -> int:
    x = torch.zeros(1, length, 1, 8)
    return visits(function, x, x, x, **arguments)


@pytest.mark.parametrize(
    "mask",
    [Window(256), Window(256, sink_tokens=4), Groups(256), Band(100, 100)],
    ids=str,
)
def test_work_grows_linearly_with_the_length(mask):
    short = long_visits(longattn.attention, 4096, mask=mask)
    long = long_visits(longattn.attention, 16384, mask=mask)
    assert long <= 4.2 * short
    queries, keys = native.tile_sizes(torch.float32)
    assert long <= 16384 / queries * (2 + (queries + 256) / keys + 1)


def test_dilated_work_grows_linearly_with_the_length():
    branches = dict(segment_lengths=(256, 1024), dilation_rates=(1, 4))
    short = long_visits(longattn.dilated_attention, 4096, **branches)
    long = long_visits(longattn.dilated_attention, 16384, **branches)
    assert long <= 4.2 * short


def test_causal_skips_half():
    full = long_visits(longattn.attention, 4096, mask=Full())
    causal = long_visits(longattn.attention, 4096, mask=Causal())
    assert 0.45 * full < causal < 0.6 * full


def test_decode_with_a_window_does_not_read_the_cache():
    q, k = torch.zeros(1, 1, 1, 8), torch.zeros(1, 16384, 1, 8)
    keys = native.tile_sizes(torch.float32)[1]
    counted = visits(longattn.attention, q, k, k, mask=Window(256, sink_tokens=4))
    assert counted <= 1 + 256 / keys + 2


def test_the_backward_skips_too():
    """At most two visits of a tile (one a pass) for each visit of the forward."""
    x = torch.zeros(1, 4096, 1, 8, requires_grad=True)
    native.visited_tiles()
    out = longattn.attention(x, x, x, Window(256))
    forward = native.visited_tiles()
    out.sum().backward()
    backward = native.visited_tiles()
    assert 0 < backward <= 2.5 * forward
