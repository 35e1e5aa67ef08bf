# SPDX-License-Identifier: BSD-3-Clause
"""Bad input: the right exception, and a sentence with the value and what is accepted."""

import dataclasses
import re
from typing import Callable

import pytest
import torch

import longattn
from longattn.masks import Causal, Groups, Prefix, Window


def qkv(q=(1, 6, 4, 8), k=(1, 9, 2, 8), v=None, dtype=torch.float32):
    return tuple(torch.randn(shape).to(dtype) for shape in (q, k, v or k))


def call(*tensors, mask=Causal(), **arguments):
    return longattn.attention(*(tensors or qkv()), mask, **arguments)


def packed(ends_q=None, ends_k=None, **arguments):
    """A valid packed call of 6 queries and 9 keys, but for what is given."""
    q, k, v = qkv((6, 4, 8), (9, 2, 8))
    ends_q = torch.tensor([0, 2, 6]) if ends_q is None else ends_q
    ends_k = torch.tensor([0, 4, 9]) if ends_k is None else ends_k
    return longattn.attention(
        q, k, v, Causal(), cu_seqlens_q=ends_q, cu_seqlens_k=ends_k, **arguments
    )


def ints(*values, dtype=torch.int32):
    return torch.tensor(values, dtype=dtype)


def dilated(segments=(4,), rates=(1,), **arguments):
    return longattn.dilated_attention(*qkv(), segments, rates, **arguments)


def shifted(group_size, **arguments):
    return longattn.shifted_sparse_attention(*qkv(), group_size, **arguments)


def windowed(**arguments):
    return longattn.lambda_attention(*qkv(), **{"window": 3, "sink_tokens": 1, **arguments})


def transposed_last(tensor):
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


@dataclasses.dataclass(frozen=True)
class Bad:
    name: str
    make: Callable
    exception: type
    says: tuple  # regular expressions that the message must contain

    def __str__(self):
        return self.name


Q, K, V = qkv()
META = [tensor.to("meta") for tensor in (Q, K, V)]

BAD = [
    # dtypes and devices
    Bad("integers", lambda: call(*qkv(dtype=torch.int32)), TypeError, ("int32", "float32")),
    Bad("complex", lambda: call(*qkv(dtype=torch.complex64)), TypeError, ("complex64", "bfloat16")),
    Bad(
        "mixed dtypes",
        lambda: call(Q, K.double(), V),
        TypeError,
        ("float32", "float64", "autocast"),
    ),
    Bad(
        "nested",
        lambda: call(*3 * (torch.nested.as_nested_tensor([torch.randn(3, 2, 8)]),)),
        TypeError,
        ("nested tensor", "cu_seqlens"),
    ),
    Bad("half values", lambda: call(Q, K, V.half()), TypeError, ("float16", "float32")),
    Bad("mixed devices", lambda: call(Q, META[1], META[2]), ValueError, ("cpu", "meta")),
    Bad("one on another device", lambda: call(Q, K, META[2]), ValueError, ("cpu", "meta")),
    Bad("no tensor", lambda: call([1.0], K, V), TypeError, ("list",)),
    # shapes
    Bad("rank 2", lambda: call(Q[0, :, 0], K, V), ValueError, (r"\(6, 8\)|\[6, 8\]", "4|four")),
    Bad("rank 5", lambda: call(Q[None], K[None], V[None]), ValueError, ("1, 1, 6, 4, 8",)),
    Bad("packed rank without cu_seqlens", lambda: call(Q[0], K[0], V[0]), ValueError, ("6, 4, 8",)),
    Bad(
        "batched rank with cu_seqlens", lambda: call(cu_seqlens_q=ints(0, 6)), ValueError, ("1, 6",)
    ),
    Bad("batch", lambda: call(*qkv(q=(2, 6, 4, 8))), ValueError, ("2", "1")),
    Bad("heads", lambda: call(*qkv(q=(1, 6, 3, 8))), ValueError, ("3", "2", "multiple|divi")),
    Bad(
        "lengths in the place of heads",
        lambda: call(*qkv((1, 4, 600, 8), (1, 2, 600, 8))),
        ValueError,
        ("600", "512", r"\[batch, length, heads, dim\]", "heads third, as FlashAttention"),
    ),
    Bad(
        "lengths in the place of heads, fewer",
        lambda: call(*qkv((1, 4, 6, 8), (1, 4, 9, 8))),
        ValueError,
        ("6", "9", "multiple", r"\[batch, length, heads, dim\]", "heads third, as FlashAttention"),
    ),
    Bad(
        "heads, packed",
        lambda: longattn.attention(
            *qkv((6, 3, 8), (6, 2, 8)), Causal(), cu_seqlens_q=ints(0, 6), cu_seqlens_k=ints(0, 6)
        ),
        ValueError,
        ("3", "2", "multiple", r"\[total, heads, dim\]", "heads second"),
    ),
    Bad("no key heads", lambda: call(*qkv(k=(1, 9, 0, 8))), ValueError, ("0",)),
    Bad("head_dim", lambda: call(*qkv(q=(1, 6, 4, 7))), ValueError, ("7", "8", "head_dim")),
    Bad("key length", lambda: call(*qkv(v=(1, 8, 2, 8))), ValueError, ("8", "9")),
    Bad("value heads", lambda: call(*qkv(v=(1, 9, 1, 8))), ValueError, ("1", "2")),
    Bad(
        "large head_dim",
        lambda: call(*qkv((1, 6, 4, 257), (1, 9, 2, 257))),
        ValueError,
        ("257", "256", "head_dim"),
    ),
    Bad(
        "large value_dim",
        lambda: call(*qkv(v=(1, 9, 2, 300))),
        ValueError,
        ("300", "256", "value_dim"),
    ),
    Bad("no head_dim", lambda: call(*qkv((1, 6, 4, 0), (1, 9, 2, 0))), ValueError, ("0", "256")),
    Bad(
        "queries, last dim", lambda: call(transposed_last(Q), K, V), ValueError, ("contiguous", "q")
    ),
    Bad("keys, last dim", lambda: call(Q, transposed_last(K), V), ValueError, ("contiguous", "k")),
    Bad(
        "values, last dim", lambda: call(Q, K, transposed_last(V)), ValueError, ("contiguous", "v")
    ),
    Bad(
        "every second",
        lambda: call(Q, K, V.repeat(1, 1, 1, 2)[..., ::2]),
        ValueError,
        ("stride|contiguous",),
    ),
    # masks
    Bad(
        "no mask",
        lambda: longattn.attention(Q, K, V),
        TypeError,
        ("mask is required", "Full, Causal, Window", "joined with &"),
    ),
    Bad("mask None", lambda: call(mask=None), TypeError, ("required", "None", "Causal")),
    Bad("mask tensor", lambda: call(mask=torch.ones(6, 9)), TypeError, ("Tensor", "Causal")),
    Bad(
        "mask class",
        lambda: call(mask=Causal),
        TypeError,
        ("class Causal", r"longattn\.Causal\(\)"),
    ),
    Bad(
        "mask class with sizes", lambda: call(mask=Window), TypeError, ("class Window", "brackets")
    ),
    Bad(
        "sizes per head",
        lambda: call(mask=Window((3, 4))),
        ValueError,
        ("2", "4", r"\[batch, length, heads, dim\]", "heads third, as FlashAttention"),
    ),
    Bad(
        "sinks per head", lambda: call(mask=Window(3, sink_tokens=(1,) * 5)), ValueError, ("5", "4")
    ),
    Bad(
        "conjunction per head", lambda: call(mask=Causal() & Prefix((1, 2))), ValueError, ("2", "4")
    ),
    Bad(
        "too many terms",
        lambda: call(mask=Groups(2) & Groups(3) & Groups(5) & Groups(7)),
        NotImplementedError,
        ("5", "4"),
    ),
    # numbers
    Bad("scale", lambda: call(softmax_scale="1"), TypeError, ("softmax_scale", "'1'|str")),
    Bad("q_start", lambda: call(q_start=1.5), TypeError, ("q_start", "1.5")),
    Bad("k_start", lambda: call(k_start=None), TypeError, ("k_start", "None")),
    Bad("backend", lambda: call(backend="tpu"), ValueError, ("tpu", "cpu")),
    # packed sequences
    Bad("ends begin", lambda: packed(ints(1, 2, 6)), ValueError, ("cu_seqlens_q", "1", "0")),
    Bad(
        "ends decrease",
        lambda: packed(ints(0, 5, 2, 6), ints(0, 1, 4, 9)),
        ValueError,
        ("cu_seqlens_q", "5", "2"),
    ),
    Bad("ends exceed", lambda: packed(ints(0, 2, 7)), ValueError, ("cu_seqlens_q", "7", "6")),
    Bad(
        "ends fall short",
        lambda: packed(None, ints(0, 2, 8)),
        ValueError,
        ("cu_seqlens_k", "8", "9"),
    ),
    Bad("ends of another count", lambda: packed(ints(0, 6)), ValueError, ("2", "3")),
    Bad("ends rank", lambda: packed(ints(0, 2, 6)[None]), ValueError, ("cu_seqlens_q", "1, 3|2")),
    Bad("no ends", lambda: packed(ints()), ValueError, ("cu_seqlens_q",)),
    Bad(
        "ends dtype",
        lambda: packed(torch.tensor([0.0, 2.0, 6.0])),
        TypeError,
        ("cu_seqlens_q", "float32", "int32"),
    ),
    Bad("ends list", lambda: packed([0, 2, 6]), TypeError, ("cu_seqlens_q", "list")),
    Bad(
        "one of two ends",
        lambda: longattn.attention(*qkv((6, 4, 8), (6, 2, 8)), Causal(), cu_seqlens_q=ints(0, 6)),
        TypeError,
        ("cu_seqlens_q and cu_seqlens_k", "cu_seqlens_k is None"),
    ),
    Bad("q_start, packed", lambda: packed(q_start=0), ValueError, ("q_start", "cu_seqlens")),
    Bad("k_start, packed", lambda: packed(k_start=3), ValueError, ("k_start", "3")),
    # patterns
    Bad("no branches", lambda: dilated((), ()), ValueError, ("segment_lengths",)),
    Bad("branches", lambda: dilated((4, 8), (1,)), ValueError, (r"4, 8", r"\[1\]|\(1,\)")),
    Bad("segment zero", lambda: dilated((0,), (1,)), ValueError, ("segment", "0", "1")),
    Bad("segment negative", lambda: dilated((4, -8), (1, 1)), ValueError, ("segment", "-8", "1")),
    Bad("rate zero", lambda: dilated((4,), (0,)), ValueError, ("rate", "0", "1")),
    Bad("rate negative", lambda: dilated((4, 8), (1, -2)), ValueError, ("rate", "-2", "1")),
    Bad("segment type", lambda: dilated((4.0,), (1,)), TypeError, ("segment", "4.0")),
    Bad("segments as a number", lambda: dilated(4, 1), TypeError, ("segment_lengths", "4|int")),
    Bad("rate type", lambda: dilated((4,), ("1",)), TypeError, ("rate", "'1'")),
    Bad(
        "head_offset",
        lambda: dilated(head_offset="diagonal"),
        ValueError,
        ("diagonal", "mod", "blocks"),
    ),
    Bad(
        "dilated, packed",
        lambda: longattn.dilated_attention(
            *qkv((6, 4, 8), (6, 2, 8)), (4,), (1,), cu_seqlens_q=ints(0, 6)
        ),
        NotImplementedError,
        ("cu_seqlens_q",),
    ),
    Bad("group size", lambda: shifted(0), ValueError, ("0", "1")),
    Bad("group size type", lambda: shifted(2.5), TypeError, ("2.5",)),
    Bad("window", lambda: windowed(window=0), ValueError, ("0", "1")),
    Bad("sinks", lambda: windowed(sink_tokens=-1), ValueError, ("sink_tokens", "-1")),
    # partials
    Bad("nothing to merge", lambda: longattn.merge_partials([], []), ValueError, ()),
    Bad(
        "outs and lses",
        lambda: longattn.merge_partials([Q, Q], [torch.randn(1, 4, 6)]),
        ValueError,
        ("2", "1"),
    ),
    Bad(
        "lse of another shape",
        lambda: longattn.merge_partials([Q], [torch.randn(1, 6, 4)]),
        ValueError,
        ("1, 6, 4", "1, 4, 6"),
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_input_raises_a_sentence(bad):
    with pytest.raises(bad.exception) as error:
        bad.make()
    assert type(error.value) is bad.exception, f"{type(error.value)} is not {bad.exception} itself"
    message = str(error.value)
    missing = [part for part in bad.says if not re.search(part, message)]
    assert not missing, f"the message says nothing of {missing}: {message!r}"
    assert len(message.split()) >= 4, f"not a sentence: {message!r}"


ROPE = longattn.RotaryEmbedding(8)
PATTERNS = {
    "attention": call,
    "lambda_attention": windowed,
    "dilated_attention": dilated,
    "shifted_sparse_attention": lambda **arguments: shifted(4, **arguments),
    "rerope_attention": lambda **arguments: longattn.rerope_attention(
        *qkv(), ROPE, window=3, **arguments
    ),
    "lm_infinite_attention": lambda **arguments: longattn.lm_infinite_attention(
        *qkv(), ROPE, window=3, sink_tokens=1, distance_ceiling=3, **arguments
    ),
    "xpos_attention": lambda **arguments: longattn.xpos_attention(
        *qkv(), longattn.RotaryEmbedding.xpos(8), **arguments
    ),
}


@pytest.mark.parametrize("function", PATTERNS)
def test_what_is_not_supported_is_named(function):
    with pytest.raises(NotImplementedError, match="dropout_p"):
        PATTERNS[function](dropout_p=0.1)


@pytest.mark.parametrize("function", PATTERNS)
@pytest.mark.parametrize("value", ["no", 1, 0, [True], torch.tensor(True)], ids=str)
def test_switches_are_true_or_false(function, value):
    """Whatever counts as true in Python would else be taken for True, "no" among it."""
    for switch, accepted in (("return_lse", "True or False"), ("deterministic", "True, False or")):
        with pytest.raises(TypeError) as error:
            PATTERNS[function](**{switch: value})
        assert str(error.value).startswith(f"{switch} must be {accepted}"), error.value
        assert repr(value) in str(error.value)


@pytest.mark.parametrize("function", PATTERNS)
def test_every_setting_of_deterministic_is_taken(function):
    call = PATTERNS[function]
    torch.manual_seed(0)
    expected = call()
    for value in (None, True, False):
        torch.manual_seed(0)
        assert torch.equal(call(deterministic=value), expected)


def test_bad_input_is_refused_before_any_work():
    """Sizes that no machine could compute raise at once: the checks come first."""
    length = 2**20
    q = torch.zeros(1, 1, 1, 8).expand(1, length, 1, 8)
    with pytest.raises(ValueError, match="head_dim"):
        longattn.attention(q, q[..., :7], q[..., :7], Causal())


@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64")])
@pytest.mark.parametrize("function", ["attention", "dilated_attention"])
def test_autocast_leaves_float64_alone_and_so_mixes_dtypes(function, dtypes):
    """Autocast casts float32 and half precision, not float64: what is mixed then stays mixed."""
    q, k = Q.to(getattr(torch, dtypes[0])), K.to(getattr(torch, dtypes[1]))
    rest = (Causal(),) if function == "attention" else ((4,), (1,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(TypeError, match="float64"):
            getattr(longattn, function)(q, k, k, *rest)


def test_autocast_does_not_let_integers_in():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(TypeError, match="int32"):
            call(*qkv(dtype=torch.int32))


def test_what_looks_odd_but_is_valid():
    """Lengths of 0, rows that see nothing, zero sequences, one sequence of everything."""
    assert call(*qkv(q=(1, 0, 4, 8))).shape == (1, 0, 4, 8)
    assert (call(*qkv(k=(1, 0, 2, 8))) == 0).all()
    assert call(*qkv(q=(0, 6, 4, 8), k=(0, 9, 2, 8))).shape == (0, 6, 4, 8)
    assert (call(q_start=-100) == 0).all()
    assert packed(ints(0, 6), ints(0, 9)).shape == (6, 4, 8)
    assert packed(ints(0, 0, 6, 6), ints(0, 9, 9, 9)).shape == (6, 4, 8)
    nothing = longattn.attention(
        *qkv((0, 4, 8), (0, 2, 8)), Causal(), cu_seqlens_q=ints(0), cu_seqlens_k=ints(0)
    )
    assert nothing.shape == (0, 4, 8)
