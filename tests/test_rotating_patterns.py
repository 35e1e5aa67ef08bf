# SPDX-License-Identifier: BSD-3-Clause
"""What the functions that rotate share: torch.compile, packed borders, numbers of NumPy, positions
far out."""

import numpy
import pytest
import torch

import inputs
import longattn
import rotated
from cases import Case
from longattn import LogN, RotaryEmbedding, rope
from longattn.masks import Causal

ROPE = RotaryEmbedding(32)
XPOS = RotaryEmbedding.xpos(32, scale_base=2.0)  # chunks of 128 in float32
BY_LENGTH = RotaryEmbedding(32, scaling=rope.DynamicNTK(2.0), max_position_embeddings=50)


CALLS = {
    "rerope": lambda q, k, v, **rest: longattn.rerope_attention(
        q, k, v, ROPE, window=20, leak=3.0, q_scale=LogN(40), **rest
    ),
    "lm_infinite": lambda q, k, v, **rest: longattn.lm_infinite_attention(
        q, k, v, ROPE, window=20, sink_tokens=3, distance_ceiling=20, **rest
    ),
    "xpos": lambda q, k, v, **rest: longattn.xpos_attention(q, k, v, XPOS, **rest),
}
LONG = {
    "rerope, by length": lambda q, k, v, **rest: longattn.rerope_attention(
        q, k, v, BY_LENGTH, window=20, **rest
    ),
    "lm_infinite, by length": lambda q, k, v, **rest: longattn.lm_infinite_attention(
        q, k, v, BY_LENGTH, window=20, sink_tokens=3, distance_ceiling=20, **rest
    ),
}


def compare_compiled(call, cases, arguments_of=lambda case: {}):
    """One compiled function for all cases: its results and their gradients, against eager mode."""
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for case in cases:
        tensors = inputs.qkv(case, torch.float32)
        arguments = inputs.call_arguments(case) | arguments_of(case)
        found = []
        for function in (compiled, call):
            out, lse = function(*tensors, return_lse=True, **arguments)
            seen = torch.where(lse == -torch.inf, 0, lse)
            loss = out.square().sum() + seen.sin().sum()
            found.append((out, lse, *torch.autograd.grad(loss, tensors)))
        for ours, theirs in zip(*found):
            torch.testing.assert_close(ours, theirs)


# Of apply_rotary: test_apply_rotary_compile.py; of xPos, whose graphs take long: test_xpos.py.
@pytest.mark.parametrize("name", ["rerope", "lm_infinite", *LONG])
def test_compile_fullgraph(name):
    """Dynamic lengths: the graph of the first one serves the other."""
    lengths = ((70, 90), (131, 173))
    cases = [Case(f"compile {q} {k}", Causal(), q, k, q_heads=4, kv_heads=2) for q, k in lengths]
    compare_compiled((CALLS | LONG)[name], cases)


@pytest.mark.parametrize("name", ["rerope", "xpos"])
def test_compile_packed(name):
    lengths = dict(q_lengths=(5, 64, 0), kv_lengths=(70, 130, 3))
    case = Case("compile packed", Causal(), **lengths, q_heads=4, kv_heads=2)
    compare_compiled(CALLS[name], [case])


def test_compile_with_bias_softcap_and_sinks():
    sinks = torch.tensor([0.5, -0.5])

    def call(q, k, v, **rest):
        bias = longattn.Alibi()  # made where it is used
        return CALLS["rerope"](q, k, v, bias=bias, softcap=5.0, sink_logits=sinks, **rest)

    compare_compiled(call, [Case("compile scores", Causal(), 70, q_heads=2)])


BORDERS = {
    "no sequence": ([0], "must end at the total length 8, got 0"),
    "short": ([0, 3, 7], "must end at the total length 8, got 7"),
    "long": ([0, 3, 9], "must end at the total length 8, got 9"),
    "falling": ([0, 6, 3, 8], "must not decrease, got 6 followed by 3"),
    "late": ([2, 5, 8], "must start at 0, got 2"),
    "negative": ([0, -2, 8], "must not decrease, got 0 followed by -2"),
}


@pytest.mark.parametrize("side", ["cu_seqlens_q", "cu_seqlens_k"])
@pytest.mark.parametrize("wrong", BORDERS)
@pytest.mark.parametrize("name", ["attention", *CALLS])
def test_wrong_borders_are_refused_before_anything_rotates(name, wrong, side):
    borders, says = BORDERS[wrong]
    right = [0] * (len(borders) - 1) + [8]
    if len(right) < 2:  # a list of one border is always wrong
        right, side = borders, "cu_seqlens_q"
    given = {"cu_seqlens_q": torch.tensor(right), "cu_seqlens_k": torch.tensor(right)}
    given[side] = torch.tensor(borders)
    x = torch.randn(8, 2, 32)
    call = CALLS.get(name, lambda *qkv, **rest: longattn.attention(*qkv, Causal(), **rest))
    with rotated.RecordedNames() as names, pytest.raises(ValueError) as error:
        call(x, x, x, **given)
    assert str(error.value) == f"{side} {says}"
    assert "rotate" not in names


def test_borders_of_no_sequence_and_no_rows_are_right():
    x = torch.randn(0, 2, 32)
    none = torch.zeros(1, dtype=torch.int32)
    for call in CALLS.values():
        assert call(x, x, x, cu_seqlens_q=none, cu_seqlens_k=none).shape == x.shape


@pytest.mark.parametrize("leak", [1, 1.0, None])
@pytest.mark.parametrize("far", [2**31 - 1, 2**31, 2**40])
def test_windows_that_are_nothing_beside_the_distance(far, leak):
    """With leak 1 it is plain RoPE at any distance; there is no window that could be too large."""
    q, k, v = rotated.qkv64(Case("far", Causal(), 3, 40))
    ours = longattn.rerope_attention(q, k, v, ROPE, window=7, leak=leak, q_start=far)
    places = (far if leak else 7) + torch.arange(3), torch.arange(40)
    if leak is None:  # everything at distance 7, and keys not turned
        places = torch.full((3,), 7), torch.zeros(40, dtype=torch.int64)
    turned = longattn.apply_rotary(q, k, ROPE, places)
    expected = longattn.attention(*turned, v, longattn.Full())
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


INTEGERS = [numpy.int8, numpy.uint8, numpy.int64]
FLOATS = [numpy.float16, numpy.float32, numpy.float64]
Q, K, V = (torch.randn(1, n, 4, 32, dtype=torch.float64) for n in (150, 150, 150))
OF_INTEGERS = {
    "LogN": lambda n: longattn.apply_rotary(Q, K, ROPE, q_scale=LogN(n(100)))[0],
    "seq_len": lambda n: longattn.apply_rotary(Q, K, BY_LENGTH, seq_len=n(100))[0],
    "q_scale": lambda n: longattn.apply_rotary(Q, K, ROPE, q_scale=n(100))[0],
    "table": lambda n: BY_LENGTH.inv_freq_for(n(100)),
    "factor": lambda n: torch.tensor(BY_LENGTH.attention_factor_for(n(100))),
    "window, leak, seq_len": lambda n: longattn.rerope_attention(
        Q, K, V, BY_LENGTH, window=n(100), leak=n(7), seq_len=n(120)
    ),
    "floor": lambda n: longattn.rerope_attention(Q, K, V, ROPE, window=n(9), leak=n(4), floor=True),
    "ceiling": lambda n: longattn.lm_infinite_attention(
        Q, K, V, ROPE, window=n(20), sink_tokens=n(3), distance_ceiling=n(100)
    ),
    "block": lambda n: longattn.xpos_attention(Q, K, V, XPOS, window=n(127), block=n(100)),
    "rope": lambda n: RotaryEmbedding(n(32), n(100), rotary_dim=n(16)).inv_freq,
    "scaling": lambda n: RotaryEmbedding(
        32, scaling=rope.YaRN(n(4), original_max_position_embeddings=n(64), beta_fast=n(16))
    ).inv_freq,
}
OF_NUMBERS = {
    "q_scale": lambda x: longattn.apply_rotary(Q, K, ROPE, q_scale=x(0.5))[0],
    "leak": lambda x: longattn.rerope_attention(Q, K, V, ROPE, window=20, leak=x(2.5)),
    "softcap": lambda x: longattn.rerope_attention(Q, K, V, ROPE, window=20, softcap=x(2.5)),
    "scaling": lambda x: RotaryEmbedding(32, scaling=rope.NTKMixed(x(8), x(0.5))).inv_freq,
    "xPos": lambda x: RotaryEmbedding.xpos(32, scale_base=x(48)).xpos_log_growth,
}


def kind_name(kind) -> str:
    return kind.__name__


@pytest.mark.parametrize("kind", INTEGERS, ids=kind_name)
@pytest.mark.parametrize("name", OF_INTEGERS)
def test_integers_of_numpy(name, kind):
    """The same to the last bit: eight bits would overflow, as would halves of a number."""
    assert torch.equal(OF_INTEGERS[name](kind), OF_INTEGERS[name](int))


@pytest.mark.parametrize("kind", FLOATS, ids=kind_name)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_of_numpy(name, kind):
    assert torch.equal(OF_NUMBERS[name](kind), OF_NUMBERS[name](float))


@pytest.mark.parametrize("wrong", [True, numpy.bool_(True), numpy.array([3]), torch.tensor(3)])
@pytest.mark.parametrize(
    "name", ["LogN", "seq_len", "q_scale", "table", "floor", "ceiling", "rope"]
)
def test_what_is_no_number(name, wrong):
    with pytest.raises(TypeError, match="must be .*(integer|number)"):
        OF_INTEGERS[name](lambda number: wrong)


def test_sinks_at_a_ceiling_take_one_launch_with_a_factor_too():
    q, k, v = inputs.qkv(Case("factor", Causal(), 97, 173), torch.bfloat16)
    with rotated.RecordedNames() as names:
        longattn.lm_infinite_attention(
            q, k, v, rotated.ROPES["YaRN"], window=20, sink_tokens=3, distance_ceiling=20
        )
    assert names == ["rotate", "rotate", "attention_bands"]  # all rows, and the sinks
