# SPDX-License-Identifier: BSD-3-Clause
"""Tables of biases are as long as what a call shows, and never shorter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
import longattn
import rotated
from cases import Case
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window
from longattn.patterns.bands import Far
from longattn.patterns.xpos import Chunk, chunk_length
from test_scores import BIASES as SCORE_BIASES
from test_scores import HEADS, parameters

SIZES = st.integers(1, 12)
MASKS = st.one_of(
    st.just(Full()),
    st.just(Causal()),
    st.builds(Window, SIZES),
    st.builds(lambda size, sinks: Window(size, sink_tokens=sinks), SIZES, st.integers(0, 3)),
    st.builds(Band, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)),
    st.builds(
        lambda size, shift, back, causal: Groups(size, shift=shift, back=back, causal=causal),
        SIZES, st.integers(0, 15), st.integers(0, 3), st.booleans(),
    ),
    st.builds(Prefix, st.integers(0, 9)),
)  # fmt: skip


def distances_shown(mask, q_positions, k_positions) -> list:
    shown = reference.visible(mask, q_positions, k_positions)
    return (q_positions[:, None] - k_positions)[shown].tolist()


@settings(max_examples=300)
@given(st.lists(MASKS, min_size=1, max_size=3), st.integers(-20, 40))
def test_no_key_is_further_than_a_mask_reaches(masks, q_start):
    mask = masks[0]
    for other in masks[1:]:
        mask = mask & other
    behind, ahead = mask.rule(0).reach()
    found = distances_shown(mask, torch.arange(q_start, q_start + 15), torch.arange(40))
    assert max(found, default=0) <= behind and max((-d for d in found), default=0) <= ahead


@settings(max_examples=100)
@given(SIZES, st.integers(0, 15), st.integers(0, 4))
def test_no_key_is_further_than_the_bands_of_patterns_reach(size, shift, back):
    q_positions, k_positions = torch.arange(-5, 60)[:, None], torch.arange(60)
    behind, _ = Chunk(size, shift, back).rule(0).reach()
    groups = (q_positions - shift) // size - (k_positions - shift) // size
    distances = (q_positions - k_positions)[(groups == back) & (q_positions >= k_positions)]
    assert distances.max().item() == behind if len(distances) else True
    assert Far(size).rule(0).reach()[0] > 10**9


BIASES = [
    lambda: longattn.Kerple([1.0, 0.3], [0.5, 2.0]),
    lambda: longattn.Sandwich(8),
    lambda: longattn.Alibi(distance_ceiling=9, window=6),
]


@pytest.mark.parametrize("q_start", range(3, 20))
@pytest.mark.parametrize("window", [1, 4, 5, 6, 9])
def test_one_chunk_of_xpos_that_lies_behind(q_start, window):
    """A call whose mask leaves one band, of keys in another chunk than the query's."""
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=0.01)
    assert chunk_length(rope, torch.float64) == 4
    q, k, v = rotated.qkv64(Case("one chunk", Causal(), 1, 8, q_heads=2))
    for bias in BIASES:
        arguments = dict(window=window, q_start=q_start, bias=bias(), return_lse=True)
        ours, theirs = (m.xpos_attention(q, k, v, rope, **arguments) for m in (longattn, reference))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["rerope_attention", "lm_infinite_attention", "xpos_attention"])
def test_tables_with_functions_that_rotate(name):
    own = {
        "rerope_attention": dict(window=20),
        "lm_infinite_attention": dict(window=20, sink_tokens=3, distance_ceiling=20),
        "xpos_attention": dict(window=50),
    }[name]
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=0.1)
    rope = rope if name == "xpos_attention" else rotated.ROPES["plain"]
    r1, r2 = (inputs.random((2,), torch.float64, f"{name} {i}").abs() for i in range(2))
    sinks = inputs.random((2,), torch.float64, name)
    for case in (
        Case("table", Causal(), 97, 150, q_heads=2),
        Case("table, far", Causal(), 9, 30, q_start=300, k_start=250, q_heads=2),
        Case("table, packed", Causal(), q_lengths=(61, 0, 130), kv_lengths=(70, 3, 130), q_heads=2),
    ):
        rotated.with_scores(name, case, own, longattn.Kerple, r1, r2, sinks, rope=rope)


def table_size(monkeypatch, call) -> int:
    sizes = []
    define = longattn.Kerple.form

    def form(bias, of_call):
        found = define(bias, of_call)
        sizes.append(found.values.shape[1])
        return found

    monkeypatch.setattr(longattn.Kerple, "form", form)
    call(longattn.Kerple([1.0, 1.0], [1.0, 1.0]))
    return max(sizes)


def test_tables_are_no_longer_than_what_is_shown(monkeypatch):
    q, k = torch.randn(1, 3, 2, 32), torch.randn(1, 500, 2, 32)
    in_window = table_size(
        monkeypatch, lambda bias: longattn.attention(q, k, k, Window(9), bias=bias)
    )
    assert in_window <= 9
    xpos = longattn.RotaryEmbedding.xpos(32, scale_base=0.5)
    assert chunk_length(xpos, torch.float32) == 32
    of_chunks = table_size(
        monkeypatch, lambda bias: longattn.xpos_attention(q, k, k, xpos, window=40, bias=bias)
    )
    assert of_chunks <= 40


def test_tables_of_packed_sequences_are_as_long_as_the_longest(monkeypatch):
    x = torch.randn(600, 2, 32)
    borders = torch.arange(0, 601, 50)
    packed = dict(cu_seqlens_q=borders, cu_seqlens_k=borders)
    for call in (
        lambda bias: longattn.attention(x, x, x, Causal(), bias=bias, **packed),
        lambda bias: longattn.rerope_attention(
            x, x, x, rotated.ROPES["plain"], window=9, bias=bias, **packed
        ),
    ):
        assert table_size(monkeypatch, call) <= 50


@pytest.mark.parametrize("name", ["attention", "lambda_attention"])
def test_sizes_of_other_heads_are_a_sentence_with_a_bias_too(name):
    q = torch.randn(1, 5, 4, 8)
    call = {
        "attention": lambda **rest: longattn.attention(q, q, q, Window((3, 4)), **rest),
        "lambda_attention": lambda **rest: longattn.lambda_attention(
            q, q, q, window=(3, 4, 5), sink_tokens=1, **rest
        ),
    }[name]
    with pytest.raises(ValueError, match="per-head tuple of length . q has 4 heads|length"):
        call(bias=longattn.Alibi())


def test_tables_end_where_the_mask_does():
    """A decoding step against many keys builds the table of its window, not of all keys."""
    q, k, v = (torch.randn(1, n, HEADS, 8) for n in (1, 5000, 5000))
    seen = []

    class Watched(longattn.Kerple):
        def form(self, call):
            form = super().form(call)
            seen.append(form.values.shape[1])
            return form

    bias = Watched(torch.rand(HEADS), torch.rand(HEADS))
    plain = longattn.Kerple(bias.r1, bias.r2)
    for mask, size in (
        (Window(64), 64),
        (Window(64, sink_tokens=1), 5000),
        (Groups(100), 100),
        (Causal(), 5000),
        (Band(10, 20), 11),  # no key is ahead of the last
    ):
        ours = longattn.attention(q, k, v, mask, bias=bias)
        expected = reference.attention(q, k, v, mask, bias=plain)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert seen.pop() == size, mask


@pytest.mark.parametrize(
    "bias", ["alibi", "alibi ceiling", "kerple log", "kerple power", "sandwich"]
)
def test_biases_far_from_home(bias):
    """Queries that stand 2^31 positions behind their keys: tables hold what is met, no more."""
    shapes, build = SCORE_BIASES[bias]
    leaves = parameters(torch.Generator().manual_seed(1), *shapes)
    tensors = inputs.qkv(Case("far", Full(), 30, 40, q_heads=HEADS, head_dim=8), torch.float64)
    arguments = dict(bias=build(*leaves), q_start=2**31)
    ours = longattn.attention(*tensors, Full(), **arguments)
    expected = reference.attention(*tensors, Full(), **arguments)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
