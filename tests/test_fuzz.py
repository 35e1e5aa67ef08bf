# SPDX-License-Identifier: BSD-3-Clause
"""Random masks, shapes and positions against the float64 reference; the seed is fixed."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import comparison
import inputs
import longattn
from cases import Case, Dilated
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Intersection, Prefix, Window

DTYPES = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
LENGTHS = st.sampled_from([0, 1, 2, 7, 31, 63, 64, 65, 97, 127, 128, 129, 150])
SIZES = st.integers(1, 12) | st.integers(1, 200)


def slack_of(tensors, softmax_scale=None) -> float:
    """Among many tiny calls there are some in which eager code is exact by luck.

    What remains then is what the backward pass starts from: out rounded to half precision, or lse
    rounded to float32.
    """
    dtype = tensors[0].dtype
    if dtype == torch.float64:
        return 0.0
    if dtype == torch.float32:
        return 2**-22 * (16 + comparison.largest_score(tensors, softmax_scale))
    return torch.finfo(dtype).eps


def masks(heads):
    """Masks for that many heads, simple ones and conjunctions."""

    def per_head(values):
        return values | st.tuples(*[values] * heads)

    bound = per_head(st.none() | st.integers(0, 10) | st.integers(0, 200))
    sinks = per_head(st.just(0) | st.integers(0, 9) | st.integers(0, 150))
    simple = st.one_of(
        st.just(Full()),
        st.just(Causal()),
        st.builds(Window, per_head(SIZES), sink_tokens=sinks),
        st.builds(Band, bound, bound, sink_tokens=sinks),
        st.builds(
            Groups,
            per_head(SIZES),
            shift=per_head(st.integers(-99, 99)),
            causal=st.booleans(),
            back=per_head(st.just(0) | st.integers(0, 3)),
        ),
        st.builds(Prefix, per_head(st.integers(0, 160))),
    )
    return st.recursive(simple, lambda inner: st.builds(Intersection, inner, inner), max_leaves=3)


def lowers(mask, heads) -> bool:
    try:
        return all(mask.rule(head) is not None for head in range(heads))
    except NotImplementedError:
        return False


@st.composite
def cases(draw):
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 2), (3, 1)]))
    mask = draw(masks(kv_heads * group))
    assume(lowers(mask, kv_heads * group))
    packed = draw(st.booleans())
    lengths = {}
    if packed:
        pairs = draw(st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=3))
        assume(any(q_len for q_len, _ in pairs))
        lengths["q_lengths"], lengths["kv_lengths"] = zip(*pairs)
    else:
        lengths["q_len"], lengths["kv_len"] = draw(LENGTHS), draw(LENGTHS)
        lengths["batch"] = draw(st.integers(1, 2))
        lengths["q_start"] = draw(st.none() | st.integers(-150, 400))
        lengths["k_start"] = draw(st.just(0) | st.integers(0, 250))
    return Case(
        "fuzz",
        mask,
        q_heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([1, 2, 5, 16, 31, 32, 33, 64, 72])),
        value_dim=draw(st.none() | st.sampled_from([1, 3, 16, 40, 65])),
        softmax_scale=draw(st.none() | st.sampled_from([0.0, 0.05, 1.0, -0.3])),
        loudness=draw(st.sampled_from([1.0, 1.0, 8.0])),
        **lengths,
    )


@settings(max_examples=300)
@given(case=cases(), dtype=DTYPES)
def test_attention(case, dtype):
    tensors = inputs.qkv(case, dtype)
    comparison.compare(
        lambda q, k, v, **arguments: longattn.attention(q, k, v, case.mask, **arguments),
        lambda q, k, v, **arguments: reference.attention(q, k, v, case.mask, **arguments),
        tensors,
        inputs.call_arguments(case),
        "fuzz",
        slack_of(tensors, case.softmax_scale),
    )


@st.composite
def dilated_cases(draw):
    branches = draw(st.lists(st.tuples(SIZES, st.integers(1, 9)), min_size=1, max_size=3))
    segment_lengths, dilation_rates = zip(*branches)
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (3, 2)]))
    return Dilated(
        "fuzz",
        segment_lengths,
        dilation_rates,
        q_len=draw(LENGTHS),
        kv_len=draw(LENGTHS),
        q_heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([3, 16, 33])),
        causal=draw(st.booleans()),
        head_offset=draw(st.sampled_from(["mod", "blocks"])),
        q_start=draw(st.none() | st.integers(-50, 400)),
        k_start=draw(st.just(0) | st.integers(0, 250)),
    )


@settings(max_examples=150)
@given(case=dilated_cases(), dtype=DTYPES, detach_weights=st.booleans())
def test_dilated_attention(case, dtype, detach_weights):
    tensors = inputs.qkv(case, dtype)
    comparison.compare(
        longattn.dilated_attention,
        reference.dilated_attention,
        tensors,
        dict(
            segment_lengths=case.segment_lengths,
            dilation_rates=case.dilation_rates,
            causal=case.causal,
            head_offset=case.head_offset,
            q_start=case.q_start,
            k_start=case.k_start,
            detach_weights=detach_weights,
        ),
        "fuzz",
        slack_of(tensors),
    )
