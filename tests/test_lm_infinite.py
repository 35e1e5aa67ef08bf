# SPDX-License-Identifier: BSD-3-Clause
"""lm_infinite_attention: a window, sinks, and the distance at which these stand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
import longattn
import rotated
from cases import Case
from longattn.masks import Causal, Window
from rotated import CASES, DTYPES, ROPES, dtype_name
from test_fuzz import slack_of

CLOSE = dict(rtol=1e-10, atol=1e-10)
FORMS = {
    "paper": dict(window=20, sink_tokens=3, distance_ceiling=20),
    "ceiling below the window": dict(window=20, sink_tokens=3, distance_ceiling=7),
    "ceiling above the window": dict(window=20, sink_tokens=70, distance_ceiling=90),
    "ceiling of zero": dict(window=1, sink_tokens=1, distance_ceiling=0),
    "true distances": dict(window=20, sink_tokens=3),
    "no sinks": dict(window=20, sink_tokens=0, distance_ceiling=20),
    "sinks beyond the end": dict(window=20, sink_tokens=500, distance_ceiling=20),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference_in_float64(case, form):
    rotated.compare("lm_infinite_attention", case, torch.float64, **FORMS[form])


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_name)
@pytest.mark.parametrize("form", ["paper", "ceiling above the window"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference(case, form, dtype):
    rotated.compare("lm_infinite_attention", case, dtype, **FORMS[form])


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=dtype_name)
@pytest.mark.parametrize("rope", ROPES)
def test_every_kind_of_rope(rope, dtype):
    for case in CASES:
        if case.name in ("grouped heads", "packed, other keys", "all keys far"):
            rotated.compare("lm_infinite_attention", case, dtype, ROPES[rope], **FORMS["paper"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=dtype_name)
def test_sizes_per_head(dtype):
    own = dict(window=(5, 60, 20, 200), sink_tokens=(1, 0, 9, 2), distance_ceiling=30)
    for case in CASES:
        if case.q_heads == 4:
            rotated.compare("lm_infinite_attention", case, dtype, **own)


@pytest.mark.parametrize("sink_tokens", [0, 1, (0, 1)])
@pytest.mark.parametrize("ceiling", [None, 3])
def test_keys_before_position_0_are_sinks_only_among_others(ceiling, sink_tokens):
    q, k, v = torch.randn(3, 1, 9, 2, 32, dtype=torch.float64)
    own = dict(window=2, sink_tokens=sink_tokens, distance_ceiling=ceiling, k_start=-5)
    out = longattn.lm_infinite_attention(q, k, v, ROPES["plain"], **own)
    expected = longattn.reference.lm_infinite_attention(q, k, v, ROPES["plain"], **own)
    torch.testing.assert_close(out, expected, **CLOSE)
    turned = longattn.apply_rotary(q, k, ROPES["plain"])
    window = longattn.attention(*turned, v, Window(2), k_start=-5)
    theirs = longattn.reference.attention(*turned, v, Window(2), k_start=-5)
    torch.testing.assert_close(window, theirs, **CLOSE)
    if sink_tokens != 1:  # the first head has none
        torch.testing.assert_close(out[:, :, 0], window[:, :, 0], **CLOSE)


def test_visible_keys_and_distances_by_hand():
    """N = 6, window 2, one sink: rows of keys and the distances at which they stand."""
    rows = [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    q = torch.zeros(1, 6, 1, 4)
    v = torch.eye(6)[None, :, None, :].contiguous()
    rope = longattn.RotaryEmbedding(4)
    own = dict(window=2, sink_tokens=1, distance_ceiling=2)
    out = longattn.lm_infinite_attention(q, q, v, rope, **own)
    for row, keys in enumerate(rows):
        assert out[0, row, 0].nonzero().flatten().tolist() == keys
    # theta of the second pair is 0.01; equal unit vectors have the score cos(distance theta)
    unit = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64).expand(1, 6, 1, 4)
    for key, distance in ((0, 2), (4, 1), (5, 0)):
        _, lse = longattn.lm_infinite_attention(
            unit[:, :1], unit[:, :1], unit[:, :1], rope, q_start=5, k_start=key, softmax_scale=1.0,
            return_lse=True, **own,
        )  # fmt: skip
        assert math.acos(min(lse.item(), 1.0)) / 0.01 == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(
    "own, mask",
    [
        (dict(window=173, sink_tokens=3, distance_ceiling=9), Causal()),
        (dict(window=20, sink_tokens=0, distance_ceiling=9), Window(20)),
        (dict(window=20, sink_tokens=3), Window(20, sink_tokens=3)),
    ],
    ids=["window over all", "no sinks", "no ceiling"],
)
def test_without_a_ceiling_it_is_rope_and_a_mask(own, mask, dtype):
    tensors = inputs.qkv(Case("plain", Causal(), 97, 173, q_heads=4, kv_heads=2), dtype)
    ours = longattn.lm_infinite_attention(*tensors, ROPES["plain"], return_lse=True, **own)
    q, k = longattn.apply_rotary(*tensors[:2], ROPES["plain"])
    theirs = longattn.attention(q, k, tensors[2], mask, return_lse=True)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs))
    gradients = [torch.autograd.grad(out.sum() + lse.sum(), tensors) for out, lse in (ours, theirs)]
    assert all(torch.equal(*pair) for pair in zip(*gradients))


def test_with_all_keys_as_sinks_it_is_rerope():
    tensors = rotated.qkv64(CASES[1])
    ours = longattn.lm_infinite_attention(
        *tensors, ROPES["plain"], window=20, sink_tokens=1000, distance_ceiling=20, return_lse=True
    )
    theirs = longattn.rerope_attention(*tensors, ROPES["plain"], window=20, return_lse=True)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("form", ["paper", "ceiling above the window", "true distances"])
def test_a_decode_step_is_its_row_of_the_prefill(form):
    q, k, v = rotated.qkv64(Case("decode", Causal(), 150, q_heads=4, kv_heads=2))
    own = FORMS[form]
    prefill = longattn.lm_infinite_attention(q, k, v, ROPES["plain"], **own)
    for row in (0, 19, 20, 22, 23, 149):
        out = longattn.lm_infinite_attention(
            q[:, row : row + 1], k[:, : row + 1], v[:, : row + 1], ROPES["plain"], **own
        )
        torch.testing.assert_close(out[:, 0], prefill[:, row], **CLOSE)


def test_a_cache_of_sinks_and_window_is_enough():
    """What the window does not reach and is no sink may be gone: two calls, merged."""
    q, k, v = rotated.qkv64(Case("cache", Causal(), 150, q_heads=4, kv_heads=2))
    own = dict(FORMS["paper"], q_start=149, return_lse=True)
    rope, last = ROPES["plain"], q[:, -1:]
    whole = longattn.lm_infinite_attention(last, k, v, rope, **own)
    kept = [
        longattn.lm_infinite_attention(last, k[:, rows], v[:, rows], rope, k_start=start, **own)
        for start, rows in ((0, slice(0, 3)), (130, slice(130, 150)))
    ]
    torch.testing.assert_close(longattn.merge_partials(*zip(*kept)), whole, **CLOSE)


def test_gradcheck():
    q, k, v = (torch.randn(1, n, 2, 4, dtype=torch.float64, requires_grad=True) for n in (7, 9, 9))
    yarn = longattn.rope.YaRN(4.0, original_max_position_embeddings=32)
    rope = longattn.RotaryEmbedding(4, scaling=yarn)
    torch.autograd.gradcheck(
        lambda *qkv: longattn.lm_infinite_attention(
            *qkv, rope, window=3, sink_tokens=2, distance_ceiling=3, return_lse=True
        ),
        (q, k, v),
    )


@pytest.mark.parametrize("case", [CASES[1], CASES[6], CASES[16]], ids=str)
def test_bias_sink_logits_and_softcap(case):
    heads = case.q_heads
    slopes = torch.rand(heads, generator=inputs.generator("slopes"), dtype=torch.float64)
    table = torch.randn(heads, 50, generator=inputs.generator("table"), dtype=torch.float64)
    sinks = torch.randn(heads, generator=inputs.generator("sinks"), dtype=torch.float64)
    name, own = "lm_infinite_attention", FORMS["paper"]
    for build, leaves in ((longattn.Alibi, [slopes]), (longattn.RelativeBias, [table])):
        rotated.with_scores(name, case, own, build, *leaves, sinks, softcap=2.0)
    rotated.with_scores(name, case, own, lambda: None, sinks)


def test_the_form_for_alibi_models_is_a_bias():
    """The authors' MPT: -m d in the window, -m ceiling for the sinks beyond it."""
    q, k, v = rotated.qkv64(Case("MPT", Causal(), 90, q_heads=4))
    bias = longattn.Alibi(distance_ceiling=25, window=20)
    out = longattn.lambda_attention(q, k, v, window=20, sink_tokens=3, bias=bias)
    d = torch.arange(90)[:, None] - torch.arange(90)
    slopes = torch.tensor([0.25, 0.0625, 0.015625, 0.00390625], dtype=torch.float64)
    scores = torch.einsum("bihc,bjhc->bhij", q, k) * 32**-0.5
    scores = scores - slopes[:, None, None] * torch.where(d < 20, d, 25)
    hidden = (d < 0) | ((d >= 20) & (torch.arange(90) >= 3))
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    torch.testing.assert_close(out, torch.einsum("bhij,bjhc->bihc", weights, v), **CLOSE)


# Costs


@pytest.mark.parametrize("window, sink_tokens", [(64, 4), (200, 130), (1, 1), (500, 64)])
def test_visited_tiles_are_those_of_the_two_bands(window, sink_tokens):
    length = 1000
    x = torch.randn(1, length, 2, 32)
    positions = torch.arange(length)
    distance = positions[:, None] - positions
    near = (distance >= 0) & (distance < window)
    far = (distance >= window) & (positions < sink_tokens)
    counted = rotated.visits(
        lambda: longattn.lm_infinite_attention(
            x, x, x, ROPES["plain"], window=window, sink_tokens=sink_tokens, distance_ceiling=window
        )
    )
    assert counted == 2 * (rotated.tiles_of(near) + rotated.tiles_of(far))


def test_work_grows_linearly_with_the_length():
    def visits(length):
        x = torch.zeros(1, length, 1, 32)
        own = dict(rope=ROPES["plain"], window=256, sink_tokens=4, distance_ceiling=256)
        return rotated.visits(lambda: longattn.lm_infinite_attention(x, x, x, **own))

    assert visits(8192) <= 4.4 * visits(2048)


def test_sinks_alone_are_rotated_a_second_time():
    q, k, v = inputs.qkv(CASES[1], torch.float32)
    with rotated.RecordedNames() as names:
        longattn.lm_infinite_attention(q, k, v, ROPES["plain"], **FORMS["paper"])
    assert names == ["rotate", "rotate", "attention_bands"]


# Bad input

Q, K, V = (torch.randn(1, n, 2, 32) for n in (6, 9, 9))
BAD = {
    "ceiling without rope": (
        dict(rope=None, distance_ceiling=4),
        TypeError,
        "rope of lm_infinite_attention.*RotaryEmbedding.*NoneType",
    ),
    "xPos": (dict(rope=longattn.RotaryEmbedding.xpos(32)), ValueError, "xpos_scale_base=512"),
    "head_dim": (dict(rope=longattn.RotaryEmbedding(16)), ValueError, "head_dim 16, got 32"),
    "window 0": (dict(window=0), ValueError, r"\[1, 2147483647\], got 0"),
    "window of three heads": (dict(window=(3, 4, 5)), ValueError, "length 3, q has 2 heads"),
    "sinks": (dict(sink_tokens=-1), ValueError, r"sink_tokens.*\[0, 2147483647\], got -1"),
    "ceiling negative": (dict(distance_ceiling=-1), ValueError, "distance_ceiling.*got -1"),
    "ceiling a fraction": (dict(distance_ceiling=1.5), TypeError, "distance_ceiling.*1.5"),
    "ceiling per head": (dict(distance_ceiling=(1, 2)), TypeError, r"one integer.*\(1, 2\)"),
    "unknown": (dict(limit_distance=7), TypeError, "lm_infinite_attention.*limit_distance"),
    "head_dim of k": (dict(k=torch.randn(1, 9, 2, 16)), ValueError, "one head_dim, got 32 and 16"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changed, exception, says = BAD[name]
    arguments = dict(q=Q, k=K, v=V, rope=ROPES["plain"], window=3, sink_tokens=1) | changed
    with pytest.raises(exception, match=f"(?s){says}"):
        longattn.lm_infinite_attention(**arguments)


def test_a_ceiling_where_nothing_rotates_is_explained():
    own = dict(window=3, sink_tokens=1)
    with pytest.raises(TypeError, match="lm_infinite_attention takes it, with a rope.*Alibi"):
        longattn.lambda_attention(Q, K, V, distance_ceiling=3, **own)


# Random calls


@st.composite
def calls(draw):
    lengths = st.sampled_from([0, 1, 2, 31, 63, 64, 65, 97, 128, 130])
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 3), (2, 2)]))
    heads = kv_heads * group
    sizes = dict(q_heads=heads, kv_heads=kv_heads)
    if draw(st.booleans()):
        pairs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=3))
        sizes["q_lengths"], sizes["kv_lengths"] = zip(*pairs)
    else:
        sizes |= dict(q_len=draw(lengths), kv_len=draw(lengths), batch=draw(st.integers(1, 2)))
        sizes["q_start"] = draw(st.none() | st.integers(-100, 300))
        sizes["k_start"] = draw(st.integers(0, 200))

    def per_head(values):
        return draw(values | st.tuples(*[values] * heads))

    own = dict(window=per_head(st.integers(1, 150)), sink_tokens=per_head(st.integers(0, 140)))
    own["distance_ceiling"] = draw(st.none() | st.integers(0, 200))
    rope = draw(st.sampled_from(sorted(ROPES)))
    return Case("fuzz", Causal(), **sizes), own, rope, draw(st.sampled_from(DTYPES))


@settings(max_examples=150)
@given(calls())
def test_random_calls(call):
    case, own, rope, dtype = call
    slack = slack_of(inputs.qkv(case, dtype))
    rotated.compare("lm_infinite_attention", case, dtype, ROPES[rope], slack=slack, **own)
