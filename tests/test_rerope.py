# SPDX-License-Identifier: BSD-3-Clause
"""rerope_attention: ReRoPE, Leaky, InvLeaky, Self-Extend; and what every pair of bands keeps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
import longattn
import rotated
from cases import Case
from longattn.masks import Causal
from rotated import CASES, DTYPES, ROPES, dtype_name
from test_fuzz import slack_of

CLOSE = dict(rtol=1e-10, atol=1e-10)
FORMS = {
    "ReRoPE": dict(window=20),
    "Leaky": dict(window=20, leak=3.3),
    "InvLeaky": dict(window=20, leak=0.4),
    "Self-Extend": dict(window=21, leak=4, floor=True),
    "window of one": dict(window=1, leak=16),
    "logn": dict(window=20, q_scale=longattn.LogN(30)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference_in_float64(case, form):
    rotated.compare("rerope_attention", case, torch.float64, **FORMS[form])


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_name)
@pytest.mark.parametrize("form", ["Leaky", "Self-Extend", "logn"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_the_reference(case, form, dtype):
    rotated.compare("rerope_attention", case, dtype, **FORMS[form])


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=dtype_name)
@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("form", ["ReRoPE", "Leaky", "Self-Extend"])
def test_every_kind_of_rope(form, rope, dtype):
    for case in CASES:
        if case.name in ("grouped heads", "packed, other keys", "shorter than the window"):
            rotated.compare("rerope_attention", case, dtype, ROPES[rope], **FORMS[form])


def distance_at_which_it_stands(distance, **form) -> float:
    """phi(distance), read off the score of one key: cos(phi theta) for equal unit vectors."""
    rope = longattn.RotaryEmbedding(4)  # theta of its second pair: 0.01
    unit = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 1, 4)
    _, lse = longattn.rerope_attention(
        unit, unit, unit, rope, q_start=distance, softmax_scale=1.0, return_lse=True, **form
    )
    return math.acos(lse.item()) / 0.01


@pytest.mark.parametrize(
    "form, expected",
    [
        (dict(window=4, leak=4), [0, 1, 2, 3, 4, 4.25, 4.5, 4.75, 5]),
        (dict(window=4, leak=0.5), [0, 1, 2, 3, 4, 6, 8]),
        (dict(window=4), [0, 1, 2, 3, 4, 4, 4, 4]),
        (dict(window=4, leak=2, floor=True), [0, 1, 2, 3, 4, 4, 5, 5, 6]),
        (dict(window=5, leak=1), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=str,
)
def test_distances_by_hand(form, expected):
    actual = [distance_at_which_it_stands(d, **form) for d in range(len(expected))]
    assert actual == pytest.approx(expected, abs=1e-5)


def plain_rope(q, k, v, rope):
    q, k = longattn.apply_rotary(q, k, rope)
    return longattn.attention(q, k, v, Causal(), return_lse=True)


@pytest.mark.parametrize(
    "form", [dict(window=173), dict(window=20, leak=1), dict(window=3, leak=1, floor=True)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_without_other_distances_it_is_plain_rope(form, dtype):
    """No key is as far as the window, or no distance differs: one partial, the same bits."""
    tensors = inputs.qkv(Case("plain", Causal(), 97, 173, q_heads=4, kv_heads=2), dtype)
    ours = longattn.rerope_attention(*tensors, ROPES["plain"], return_lse=True, **form)
    theirs = plain_rope(*tensors, ROPES["plain"])
    assert all(torch.equal(*pair) for pair in zip(ours, theirs))
    gradients = [torch.autograd.grad(out.sum() + lse.sum(), tensors) for out, lse in (ours, theirs)]
    assert all(torch.equal(*pair) for pair in zip(*gradients))


@pytest.mark.parametrize("form", FORMS)
def test_a_decode_step_is_its_row_of_the_prefill(form):
    q, k, v = rotated.qkv64(Case("decode", Causal(), 150, q_heads=4, kv_heads=2))
    prefill, prefill_lse = longattn.rerope_attention(
        q, k, v, ROPES["plain"], return_lse=True, **FORMS[form]
    )
    for row in (0, 1, 19, 20, 21, 77, 149):
        out, lse = longattn.rerope_attention(
            q[:, row : row + 1], k[:, : row + 1], v[:, : row + 1], ROPES["plain"],
            return_lse=True, **FORMS[form],
        )  # fmt: skip
        torch.testing.assert_close(out[:, 0], prefill[:, row], **CLOSE)
        torch.testing.assert_close(lse[:, :, 0], prefill_lse[:, :, row], **CLOSE)


@pytest.mark.parametrize("form", FORMS)
def test_shards_of_the_keys_merge(form):
    """Positions are global, also where they are rounded down."""
    q, k, v = rotated.qkv64(Case("shards", Causal(), 150, q_heads=4, kv_heads=2))
    rope, own = ROPES["plain"], FORMS[form]
    whole = longattn.rerope_attention(q, k, v, rope, return_lse=True, **own)
    partials = [
        longattn.rerope_attention(
            q, k[:, a:b], v[:, a:b], rope, q_start=0, k_start=a, return_lse=True, **own
        )
        for a, b in ((0, 37), (37, 102), (102, 150))
    ]
    torch.testing.assert_close(longattn.merge_partials(*zip(*partials)), whole, **CLOSE)


@pytest.mark.parametrize("form", ["ReRoPE", "Leaky", "Self-Extend"])
def test_positions_far_out(form):
    """All positions moved by a multiple of the group: the same distances, the same result."""
    q, k, v = rotated.qkv64(Case("far out", Causal(), 70, 90))
    rope, own = ROPES["plain"], FORMS[form]
    here = longattn.rerope_attention(q, k, v, rope, **own)
    moved = 2**40
    there = longattn.rerope_attention(q, k, v, rope, q_start=moved + 20, k_start=moved, **own)
    # A third of 2^40 is itself rounded, by 2^-14.
    torch.testing.assert_close(there, here, rtol=0, atol=1e-3 if form == "Leaky" else 1e-9)


def test_causality_by_perturbation():
    q, k, v = rotated.qkv64(Case("causal", Causal(), 100))
    before = longattn.rerope_attention(q, k, v, ROPES["plain"], window=30)
    for t in (1, 40, 99):
        k_t, v_t = k.clone(), v.clone()
        k_t[:, t] += 1.0
        v_t[:, t] += 1.0
        after = longattn.rerope_attention(q, k_t, v_t, ROPES["plain"], window=30)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(-1).all()


def test_gradcheck():
    q, k, v = (torch.randn(1, n, 2, 4, dtype=torch.float64, requires_grad=True) for n in (7, 9, 9))
    rope = longattn.RotaryEmbedding(4)
    for form in (dict(window=3), dict(window=3, leak=2.5), dict(window=3, leak=2, floor=True)):
        torch.autograd.gradcheck(
            lambda *qkv: longattn.rerope_attention(*qkv, rope, return_lse=True, **form), (q, k, v)
        )


@pytest.mark.parametrize("case", [CASES[1], CASES[6], CASES[16]], ids=str)
def test_bias_sink_logits_and_softcap(case):
    heads = case.q_heads
    slopes = torch.rand(heads, generator=inputs.generator("slopes"), dtype=torch.float64)
    table = torch.randn(heads, 50, generator=inputs.generator("table"), dtype=torch.float64)
    sinks = torch.randn(heads, generator=inputs.generator("sinks"), dtype=torch.float64)
    own = dict(window=20, leak=3)
    for build, leaves in ((longattn.Alibi, [slopes]), (longattn.RelativeBias, [table])):
        rotated.with_scores("rerope_attention", case, own, build, *leaves, sinks, softcap=2.0)
    rotated.with_scores("rerope_attention", case, own, lambda: None, sinks)


# Costs


def far_and_near(length, window) -> tuple:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & (distance < window), distance >= window


@pytest.mark.parametrize("window", [1, 64, 200, 512, 999])
def test_only_tiles_at_the_edge_are_visited_twice(window):
    length = 1000
    x = torch.randn(1, length, 2, 32)
    near, far = far_and_near(length, window)
    counted = rotated.visits(
        lambda: longattn.rerope_attention(x, x, x, ROPES["plain"], window=window)
    )
    assert counted == 2 * (rotated.tiles_of(near) + rotated.tiles_of(far))
    twice = counted - rotated.visits(lambda: longattn.attention(x, x, x, Causal()))
    queries, keys = longattn.native.tile_sizes(torch.float32)
    rows_of_tiles = -(-length // queries)
    assert 0 < twice <= 2 * rows_of_tiles * (2 + queries // keys)


def test_an_input_without_far_keys_visits_no_tile_twice():
    x = torch.randn(1, 500, 2, 32)
    counted = rotated.visits(lambda: longattn.rerope_attention(x, x, x, ROPES["plain"], window=500))
    assert counted == rotated.visits(lambda: longattn.attention(x, x, x, Causal()))


def test_one_launch_rotates_and_one_node_attends():
    tensors = inputs.qkv(CASES[1], torch.float32)
    with rotated.RecordedNames() as names:
        longattn.rerope_attention(*tensors, ROPES["plain"], window=20).sum().backward()
    assert names == ["rotate", "attention_bands", "attention_bands_backward", "rotate_backward"]


# Bad input

Q, K, V = (torch.randn(1, n, 2, 32) for n in (6, 9, 9))
BAD = {
    "a dict": (dict(rope={}), TypeError, "rope.*RotaryEmbedding.*dict.*from_hf"),
    "no rope": (dict(rope=None), TypeError, "rope.*RotaryEmbedding.*NoneType"),
    "xPos": (dict(rope=longattn.RotaryEmbedding.xpos(32)), ValueError, "xpos_scale_base=512"),
    "head_dim": (dict(rope=longattn.RotaryEmbedding(16)), ValueError, "head_dim 16, got 32"),
    "window 0": (dict(window=0), ValueError, r"\[1, 2147483647\], got 0"),
    "window None": (dict(window=None), TypeError, "None"),
    "window per head": (dict(window=(3, 4)), TypeError, r"one integer.*\(3, 4\)"),
    "leak 0": (dict(leak=0), ValueError, "leak.*greater than 0.*got 0"),
    "leak negative": (dict(leak=-2.0), ValueError, "leak.*greater than 0.*got -2"),
    "leak of nearly nothing": (dict(leak=1e-300), ValueError, "leak.*at least 1e-06.*1e-300"),
    "leak NaN": (dict(leak=math.nan), ValueError, "leak.*nan"),
    "leak infinite": (dict(leak=math.inf), ValueError, r"or None \(infinity\), got inf"),
    "leak a string": (dict(leak="4"), TypeError, "leak.*'4'"),
    "leak a bool": (dict(leak=True), TypeError, "leak.*True"),
    "floor without leak": (dict(floor=True), ValueError, "floor=True.*leak.*None"),
    "floor and a fraction": (dict(floor=True, leak=2.5), ValueError, "integer.*2.5"),
    "floor and InvLeaky": (dict(floor=True, leak=0.5), ValueError, "at least 1.*0.5"),
    "floor no flag": (dict(floor=1), TypeError, "floor.*True or False.*1"),
    "q_scale": (dict(q_scale="logn"), TypeError, "q_scale.*LogN.*'logn'"),
    "seq_len": (dict(seq_len=0), ValueError, "seq_len.*at least 1.*0"),
    "backend": (dict(backend="tpu"), ValueError, "backend.*tpu"),
    "q_start": (dict(q_start=1.5), TypeError, "q_start.*1.5"),
    "mask": (dict(mask=Causal()), TypeError, "rerope_attention.*mask"),
    "dropout_p": (dict(dropout_p=0.1), NotImplementedError, "dropout_p=0.1"),
    "unknown": (dict(colour=7), TypeError, "rerope_attention.*colour"),
    "packed positions": (
        dict(q_start=1, cu_seqlens_q=torch.tensor([0, 6])),
        ValueError,
        "shape|q_start",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changed, exception, says = BAD[name]
    arguments = dict(rope=ROPES["plain"], window=3) | changed
    with pytest.raises(exception, match=f"(?s){says}"):
        longattn.rerope_attention(Q, K, V, **arguments)


def test_packed_borders_that_lie_are_refused():
    q, k = torch.randn(6, 2, 32), torch.randn(9, 2, 32)
    with pytest.raises(ValueError, match="cu_seqlens_k must end at the total length 9, got 8"):
        longattn.rerope_attention(
            q, k, k, ROPES["plain"], window=2,
            cu_seqlens_q=torch.tensor([0, 6]), cu_seqlens_k=torch.tensor([0, 8]),
        )  # fmt: skip


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
    own = dict(window=draw(st.integers(1, 12) | st.integers(1, 150)))
    own["leak"] = draw(st.none() | st.integers(1, 20) | st.floats(0.2, 30))
    own["floor"] = isinstance(own["leak"], int) and draw(st.booleans())
    own["q_scale"] = draw(st.sampled_from([None, 0.7, longattn.LogN(16)]))
    rope = draw(st.sampled_from(sorted(ROPES)))
    return Case("fuzz", Causal(), **sizes), own, rope, draw(st.sampled_from(DTYPES))


@settings(max_examples=150)
@given(calls())
def test_random_calls(call):
    case, own, rope, dtype = call
    slack = slack_of(inputs.qkv(case, dtype))
    rotated.compare("rerope_attention", case, dtype, ROPES[rope], slack=slack, **own)
