# SPDX-License-Identifier: BSD-3-Clause
"""xpos_attention: the formula at every length, whatever its factors would grow to."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
import longattn
import rotated
from cases import Case
from longattn.masks import Causal, Groups, Window
from longattn.patterns.xpos import chunk_length
from rotated import CASES, DTYPES, dtype_name
from test_fuzz import slack_of

CLOSE = dict(rtol=1e-10, atol=1e-10)

# The smaller scale_base, the shorter the chunks: a score has halved after scale_base / 1.8 keys.
ROPES = {
    "as published": longattn.RotaryEmbedding.xpos(32),
    "some chunks": longattn.RotaryEmbedding.xpos(32, scale_base=2.0),
    "many chunks": longattn.RotaryEmbedding.xpos(32, scale_base=0.3, interleaved=False),
    "partial": longattn.RotaryEmbedding(32, rotary_dim=12, xpos_scale_base=1.0),
}
FORMS = {
    "all keys": {},
    "window": dict(window=20),
    "blocks": dict(block=13),
    "blocks and window": dict(block=50, window=70),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference_in_float64(case, form):
    rotated.compare("xpos_attention", case, torch.float64, ROPES["many chunks"], **FORMS[form])


@pytest.mark.parametrize("rope", ["as published", "some chunks", "partial"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_rope(case, rope):
    rotated.compare("xpos_attention", case, torch.float64, ROPES[rope])


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_name)
@pytest.mark.parametrize("rope", ["some chunks", "many chunks"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference(case, rope, dtype):
    # Each chunk's query is rounded, and its gradient.
    rotated.compare(
        "xpos_attention", case, dtype, ROPES[rope], slack=2 * torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_name)
@pytest.mark.parametrize("form", ["window", "blocks", "blocks and window"])
def test_masks_and_chunks_together(form, dtype):
    for case in CASES:
        if case.name in ("grouped heads", "keys without sinks", "packed, other keys"):
            rotated.compare("xpos_attention", case, dtype, ROPES["some chunks"], **FORMS[form])


def test_sizes_per_head():
    own = dict(window=(5, 60, 20, 200), block=(11, 30, 64, 7))
    for case in CASES:
        if case.q_heads == 4:
            rotated.compare("xpos_attention", case, torch.float64, ROPES["many chunks"], **own)


def test_the_tested_ropes_are_cut_into_chunks():
    lengths = {
        name: [chunk_length(rope, dtype) for dtype in DTYPES] for name, rope in ROPES.items()
    }
    assert lengths["as published"] == [271954, 32860, 32860, 4532]
    assert max(lengths["some chunks"][1:]) < 131 and max(lengths["many chunks"]) < 173


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_short_inputs_are_one_partial_and_agree_with_apply_rotary(dtype):
    q, k, v = inputs.qkv(Case("short", Causal(), 97, 173, q_heads=4, kv_heads=2), dtype)
    rope = ROPES["as published"]
    with rotated.RecordedNames() as names:
        out = longattn.xpos_attention(q, k, v, rope)
    assert names == ["rotate", "attention"]
    expected = longattn.attention(*longattn.apply_rotary(q, k, rope), v, Causal())
    tolerance = 1e-12 if dtype == torch.float64 else 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)


def test_torchscales_formula():
    """zeta ** (+-(p - centre) / 512) on interleaved pairs, of queries and keys; a plain softmax."""
    q, k, v = rotated.qkv64(Case("torchscale", Causal(), 40, q_heads=1))
    places = torch.arange(40, dtype=torch.float64) - 20
    zeta = (torch.arange(0, 32, 2) + 0.4 * 32) / (1.4 * 32)
    angles = places[:, None] * 10000 ** (-torch.arange(0, 32, 2) / 32).double()
    growth = zeta.double() ** (places[:, None] / 512)

    def turn(x, size):
        even, odd = x[0, :, 0, 0::2], x[0, :, 0, 1::2]
        first = size * (even * angles.cos() - odd * angles.sin())
        second = size * (odd * angles.cos() + even * angles.sin())
        return torch.stack([first, second], -1).flatten(1)

    scores = turn(q, growth) @ turn(k, 1 / growth).T * 32**-0.5
    weights = scores.masked_fill(torch.ones(40, 40).triu(1).bool(), -torch.inf).softmax(-1)
    expected = weights @ v[0, :, 0]
    out = longattn.xpos_attention(q, k, v, ROPES["as published"])
    torch.testing.assert_close(out[0, :, 0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_name)
def test_lengths_that_one_centre_cannot_serve(dtype):
    """70000 keys: around one centre the factors would be 2^123."""
    case = Case("long", Causal(), 2, 70_000, q_heads=1)
    with pytest.raises(ValueError, match="use longattn.xpos_attention"):
        longattn.apply_rotary(*inputs.qkv(case, dtype)[:2], ROPES["as published"])
    rotated.compare("xpos_attention", case, dtype, ROPES["as published"])


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_what_is_hidden_never_counts(dtype, softcap):
    """Products of a query and keys behind it are the largest of all: up to 2^116, here infinite."""
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=0.3)
    q, k, v = inputs.qkv(Case("hidden", Causal(), 200, loudness=10.0), dtype)
    out, lse = longattn.xpos_attention(q, k, v, rope, softcap=softcap, return_lse=True)
    gradients = torch.autograd.grad(out.sum() + lse.sum(), (q, k, v))
    assert all(tensor.isfinite().all() for tensor in (out, lse, *gradients))


def test_queries_that_are_far_from_all_keys():
    """Every pair of dimensions has decayed: all keys weigh the same."""
    rope = ROPES["as published"]
    q, k, v = rotated.qkv64(Case("far", Causal(), 2, 50))
    for start in (10**6, 2**40):
        out = longattn.xpos_attention(q.float(), k.float(), v.float(), rope, q_start=start)
        torch.testing.assert_close(out, v.float().mean(1, keepdim=True).expand_as(out))


def test_queries_further_than_chunks_can_be_counted_are_refused():
    q, k, v = inputs.qkv(Case("too far", Causal(), 1, 9), torch.float16, requires_grad=False)
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=0.5)
    assert chunk_length(rope, torch.float16) < 9
    with pytest.raises(NotImplementedError, match="2147483647"):
        longattn.xpos_attention(q, k, v, rope, q_start=2**33)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rope", ["as published", "many chunks"])
def test_a_decode_step_is_its_row_of_the_prefill(rope, form):
    q, k, v = rotated.qkv64(Case("decode", Causal(), 200, q_heads=4, kv_heads=2))
    own = FORMS[form]
    prefill = longattn.xpos_attention(q, k, v, ROPES[rope], **own)
    for row in (0, 12, 13, 26, 77, 199):
        out = longattn.xpos_attention(
            q[:, row : row + 1], k[:, : row + 1], v[:, : row + 1], ROPES[rope], **own
        )
        torch.testing.assert_close(out[:, 0], prefill[:, row], **CLOSE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rope", ["as published", "many chunks"])
def test_shards_of_the_keys_merge(rope, form):
    q, k, v = rotated.qkv64(Case("shards", Causal(), 200, q_heads=4, kv_heads=2))
    own = FORMS[form]
    whole = longattn.xpos_attention(q, k, v, ROPES[rope], return_lse=True, **own)
    partials = [
        longattn.xpos_attention(
            q, k[:, a:b], v[:, a:b], ROPES[rope], q_start=0, k_start=a, return_lse=True, **own
        )
        for a, b in ((0, 37), (37, 102), (102, 200))
    ]
    torch.testing.assert_close(longattn.merge_partials(*zip(*partials)), whole, **CLOSE)


def test_gradcheck():
    q, k, v = (torch.randn(1, n, 2, 4, dtype=torch.float64, requires_grad=True) for n in (7, 9, 9))
    rope = longattn.RotaryEmbedding.xpos(4, scale_base=0.01)
    assert chunk_length(rope, torch.float64) < 9
    torch.autograd.gradcheck(
        lambda *qkv: longattn.xpos_attention(*qkv, rope, return_lse=True), (q, k, v)
    )


@pytest.mark.parametrize("rope", ["as published", "many chunks"])
@pytest.mark.parametrize("case", [CASES[1], CASES[6], CASES[16]], ids=str)
def test_bias_sink_logits_and_softcap(case, rope):
    slopes = torch.rand(case.q_heads, generator=inputs.generator("slopes"), dtype=torch.float64)
    sinks = torch.randn(case.q_heads, generator=inputs.generator("sinks"), dtype=torch.float64)
    rotated.with_scores(
        "xpos_attention", case, {}, longattn.Alibi, slopes, sinks, softcap=2.0, rope=ROPES[rope]
    )


# Costs


@pytest.mark.parametrize("block, mask", [(None, Causal()), (100, Groups(100, back=1))], ids=str)
def test_one_chunk_visits_the_tiles_of_its_mask(block, mask):
    x = torch.randn(1, 1000, 2, 32)
    rope = ROPES["as published"]
    counted = rotated.visits(lambda: longattn.xpos_attention(x, x, x, rope, block=block))
    assert counted == rotated.visits(lambda: longattn.attention(x, x, x, mask))


def test_blocks_make_work_linear_over_all_chunks():
    def visits(length):
        x = torch.zeros(1, length, 1, 32)
        return rotated.visits(
            lambda: longattn.xpos_attention(x, x, x, ROPES["some chunks"], block=64)
        )

    assert visits(8192) <= 4.2 * visits(2048)


@pytest.mark.parametrize(
    "own, rotations",
    [({}, 1 + 3), (dict(window=40), 1 + 1), (dict(block=64), 1 + 1)],
    ids=str,
)
def test_queries_are_rotated_for_the_chunks_that_they_see(own, rotations):
    """Keys once; queries four chunks a launch."""
    x = torch.randn(1, 1200, 2, 32)  # 10 chunks of 128
    rope = ROPES["some chunks"]
    assert chunk_length(rope, torch.float32) == 128
    with rotated.RecordedNames() as names:
        longattn.xpos_attention(x, x, x, rope, **own)
    assert names == ["rotate"] * rotations + ["attention_bands"]


# torch


@pytest.mark.parametrize("rope", ["as published", "some chunks"])
def test_compile_fullgraph(rope):
    torch._dynamo.reset()

    def call(q, k, v):
        return longattn.xpos_attention(q, k, v, ROPES[rope], block=70)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (150, 200):
        case = Case(f"compile {length}", Causal(), length, length + 11)
        tensors = inputs.qkv(case, torch.float32)
        actual, expected = compiled(*tensors), call(*tensors)
        torch.testing.assert_close(actual, expected)
        for ours, theirs in zip(
            torch.autograd.grad(actual.square().sum(), tensors),
            torch.autograd.grad(expected.square().sum(), tensors),
        ):
            torch.testing.assert_close(ours, theirs)


def test_autocast_cuts_chunks_for_the_dtype_that_it_casts_to():
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=2.0)
    q, k, v = inputs.qkv(Case("autocast", Causal(), 150), torch.float32, requires_grad=False)
    expected = longattn.xpos_attention(q, k, v, rope)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype):
            out = longattn.xpos_attention(q, k, v, rope)
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.05)


# Bad input

Q, K, V = (torch.randn(1, n, 2, 32) for n in (6, 9, 9))
BAD = {
    "no rope": (dict(rope=None), TypeError, "rope of xpos_attention.*RotaryEmbedding.*NoneType"),
    "another rope": (
        dict(rope=longattn.RotaryEmbedding(32)),
        ValueError,
        r"RotaryEmbedding\.xpos.*xpos_scale_base=None.*apply_rotary",
    ),
    "not causal": (dict(causal=False), ValueError, "causal must be True.*got False.*grow"),
    "causal a number": (dict(causal=1), TypeError, "causal must be True or False, got 1"),
    "mask": (dict(mask=Window(3)), TypeError, "xpos_attention.*mask"),
    "window 0": (dict(window=0), ValueError, r"\[1, 2147483647\], got 0"),
    "block 0": (dict(block=0), ValueError, r"\[1, 2147483647\], got 0"),
    "block a fraction": (dict(block=2.5), TypeError, "2.5"),
    "window of three heads": (dict(window=(3, 4, 5)), ValueError, "length 3, q has 2 heads"),
    "head_dim": (dict(rope=longattn.RotaryEmbedding.xpos(16)), ValueError, "head_dim 16, got 32"),
    "seq_len": (dict(seq_len=9), TypeError, "seq_len"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changed, exception, says = BAD[name]
    arguments = dict(rope=ROPES["as published"]) | changed
    with pytest.raises(exception, match=f"(?s){says}"):
        longattn.xpos_attention(Q, K, V, **arguments)


# Random calls


@st.composite
def calls(draw):
    lengths = st.sampled_from([0, 1, 2, 31, 63, 64, 65, 97, 128, 130])
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 3), (2, 2)]))
    sizes = dict(q_heads=kv_heads * group, kv_heads=kv_heads)
    if draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=3))
        sizes["q_lengths"], sizes["kv_lengths"] = zip(*pairs)
    else:
        sizes |= dict(q_len=draw(lengths), kv_len=draw(lengths), batch=draw(st.integers(1, 2)))
        sizes["q_start"] = draw(st.none() | st.integers(-100, 300))
        sizes["k_start"] = draw(st.integers(-50, 200))
    own = dict(window=draw(st.none() | st.integers(1, 150)))
    own["block"] = draw(st.none() | st.integers(1, 80))
    scale_base = draw(st.sampled_from([0.2, 1.0, 3.0, 512.0]))
    return Case("fuzz", Causal(), **sizes), own, scale_base, draw(st.sampled_from(DTYPES))


@settings(max_examples=100)
@given(calls())
def test_random_calls(call):
    case, own, scale_base, dtype = call
    rope = longattn.RotaryEmbedding.xpos(32, scale_base=scale_base)
    slack = slack_of(inputs.qkv(case, dtype))
    rotated.compare("xpos_attention", case, dtype, rope, slack=slack, **own)
