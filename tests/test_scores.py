# SPDX-License-Identifier: BSD-3-Clause
"""Biases, softcap and sink logits against the dense reference: out, lse and every gradient."""

import itertools

import pytest
import torch

import closeness
import inputs
import longattn
from cases import Case
from longattn import reference
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window

HEADS = 4
SHAPES = [
    Case("square", Causal(), 150, batch=2, q_heads=HEADS, kv_heads=2, head_dim=24),
    Case("window with sinks", Window(40, sink_tokens=3), 201, 233, q_heads=HEADS, head_dim=16),
    Case("both sides", Band(70, 30), 131, 97, q_heads=HEADS, kv_heads=1, head_dim=8),
    Case("full", Full(), 67, 140, q_heads=HEADS, q_start=-20, k_start=11, head_dim=16),
    Case("groups", Groups(64, shift=16), 190, q_heads=HEADS, head_dim=16),
    Case("prefix", Prefix(50), 99, q_heads=HEADS, head_dim=16),
    Case("packed", Causal(), q_lengths=(65, 0, 1, 130), kv_lengths=(70, 5, 0, 140), q_heads=HEADS,
         kv_heads=2, head_dim=16),
    Case("rows that see nothing", Causal(), 90, 40, q_heads=HEADS, head_dim=16),
    Case("one query", Causal(), 1, 77, q_heads=HEADS, head_dim=16),
    Case("no query", Causal(), 0, 7, q_heads=HEADS, head_dim=16),
    Case("no key", Causal(), 7, 0, q_heads=HEADS, head_dim=16),
]


def parameters(generator, *shapes):
    return [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]


# name -> (shapes of its parameters, bias of parameters)
BIASES = {
    "alibi": ((), lambda: longattn.Alibi()),
    "alibi learned": (((HEADS,),), longattn.Alibi),
    "alibi ceiling": (((HEADS,),), lambda s: longattn.Alibi(s, distance_ceiling=30, window=40)),
    "kerple log": (((HEADS,), (HEADS,)), longattn.Kerple),
    "kerple power": (((HEADS,), (HEADS,)), lambda a, p: longattn.Kerple(a, p, kind="power")),
    "sandwich": ((), lambda: longattn.Sandwich(32)),
    "table": (((HEADS, 50),), longattn.RelativeBias),
    "table of one": (((HEADS, 1),), longattn.RelativeBias),
    "table, two sides": (((HEADS, 41),), lambda t: longattn.RelativeBias(t, origin=17)),
    "T5": (((HEADS, 16),), lambda t: longattn.RelativeBias.from_t5(t, max_distance=60)),
    "T5, both sides": (
        ((HEADS, 16),),
        lambda t: longattn.RelativeBias.from_t5(t, max_distance=60, bidirectional=True),
    ),
}


def gradients(function, case, tensors, leaves, build, sinks, dtype, **arguments):
    """(out, lse, gradients of q, k, v, the bias's parameters and the sink logits)."""
    tensors = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    parameter_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    leaves = [leaf.detach().to(parameter_dtype).requires_grad_() for leaf in leaves]
    if sinks is not None:
        sinks = sinks.detach().to(parameter_dtype).requires_grad_()
        arguments["sink_logits"] = sinks
    out, lse = function(*tensors, case.mask, bias=build(*leaves), return_lse=True, **arguments)
    generator = torch.Generator().manual_seed(3)
    d_out = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    d_lse = torch.randn(lse.shape, generator=generator, dtype=torch.float64).to(lse.dtype)
    wanted = [*tensors, *leaves, *([] if sinks is None else [sinks])]
    finite = torch.where(lse.isinf(), torch.zeros_like(lse), lse)
    loss = (out * d_out).sum() + (finite * d_lse).sum()
    return out, lse, torch.autograd.grad(loss, wanted, allow_unused=True)


def check(case, bias, softcap, sinks, dtype, loudness=1.0, grain=1, softmax_scale=None, **engine):
    shapes, build = BIASES[bias] if bias else ((), lambda: None)
    generator = torch.Generator().manual_seed(11)
    leaves = parameters(generator, *shapes)
    sink_logits = torch.randn(HEADS, generator=generator, dtype=torch.float64) if sinks else None
    tensors = inputs.qkv(case, dtype, grain=grain)
    tensors = [tensors[0] * loudness, *tensors[1:]]
    arguments = inputs.call_arguments(case) | {"softcap": softcap, "softmax_scale": softmax_scale}
    rest = (case, tensors, leaves, build, sink_logits)
    actual = gradients(longattn.attention, *rest, dtype, **arguments, **engine)
    eager = gradients(reference.attention, *rest, dtype, **arguments)
    exact = gradients(reference.attention, *rest, torch.float64, **arguments)
    closeness.assert_close(actual[0], [eager[0]], exact[0], "out")
    largest = max([0.0, *exact[1][~exact[1].isinf()].abs().tolist()])
    closeness.assert_lse_close(actual[1], exact[1], 4 * largest + 10 * loudness)
    names = ["dq", "dk", "dv"] + [f"parameter {i}" for i in range(len(leaves))] + ["sink_logits"]
    for name, ours, theirs, truth in zip(names, actual[2], eager[2], exact[2]):
        if truth is None or ours is None:
            assert (ours is None or not ours.any()) and (truth is None or not truth.any()), name
            continue
        # One twin's error is a matter of luck, above all that of sums over all pairs.
        eps = 0.0 if dtype == torch.float64 else max(torch.finfo(dtype).eps, 8e-6)
        slack = eps if name[0] in "ps" else 2 * min(eps, 1.2e-7)
        closeness.assert_close(ours, [theirs], truth, name, slack)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_bias_in_float64(case, bias):
    check(case, bias, None, False, torch.float64)


@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize("softcap, sinks", [(2.5, False), (None, True), (30.0, True)])
def test_softcap_and_sinks_in_float64(case, softcap, sinks):
    check(case, None, softcap, sinks, torch.float64, loudness=4.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_all_at_once(case, dtype):
    for bias, softcap in itertools.product(("alibi learned", "table", "kerple log"), (None, 5.0)):
        check(case, bias, softcap, True, dtype)


def two_calls(function, tensors, **arguments):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    slopes = torch.tensor([0.3, 0.1, 0.02, 0.4], requires_grad=True)
    table = torch.linspace(-1, 1, 4 * 37).reshape(4, 37).requires_grad_()
    sinks = torch.linspace(-1, 1, 4).requires_grad_()
    results = []
    for bias in (longattn.Alibi(slopes), longattn.RelativeBias(table, origin=5)):
        out, lse = function(
            *tensors, bias=bias, sink_logits=sinks, softcap=9.0, return_lse=True, **arguments
        )
        finite = torch.where(lse.isinf(), 0.0, lse)
        loss = out.square().sum() + (finite * finite).sum()
        wanted = [*tensors, sinks, slopes if isinstance(bias, longattn.Alibi) else table]
        results += [out, lse, *torch.autograd.grad(loss, wanted)]
    return results


PATTERNS = {
    "dilated": lambda module: lambda *qkv, **rest: module.dilated_attention(
        *qkv, (16, 64), (1, 4), **rest
    ),
    "dilated, from elsewhere": lambda module: lambda *qkv, **rest: module.dilated_attention(
        *qkv, (30, 64), (4, 3), head_offset="blocks", q_start=21, k_start=3, **rest
    ),
    "shifted": lambda module: lambda *qkv, **rest: module.shifted_sparse_attention(
        *qkv, 24, **rest
    ),
    "lambda": lambda module: lambda *qkv, **rest: module.lambda_attention(
        *qkv, window=20, sink_tokens=3, **rest
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_take_score_arguments(name):
    tensors = inputs.qkv(Case("pattern", Causal(), 133, 140, q_heads=4, kv_heads=2), torch.float64)
    ours = two_calls(PATTERNS[name](longattn), tensors)
    for actual, expected in zip(ours, two_calls(PATTERNS[name](reference), tensors), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_partials_with_a_bias_merge_to_the_whole():
    """lse is that of the true bias, not of one that is shifted row by row."""
    q, k, v = inputs.qkv(Case("parts", Causal(), 90, q_heads=4), torch.float64)
    bias = longattn.Alibi()
    parts = [
        longattn.attention(
            q, k[:, keys], v[:, keys], Causal(), bias=bias, q_start=0, k_start=keys.start,
            return_lse=True,
        )
        for keys in (slice(0, 33), slice(33, 90))
    ]
    merged = longattn.merge_partials(*zip(*parts))
    whole = longattn.attention(q, k, v, Causal(), bias=bias, return_lse=True)
    torch.testing.assert_close(merged, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3, 11])
def test_gradients_are_the_same_bits_for_any_number_of_threads(batch):
    tensors = inputs.qkv(Case("threads", Causal(), 300, batch=batch, q_heads=4), torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(
                two_calls(lambda *qkv, **rest: longattn.attention(*qkv, Causal(), **rest), tensors)
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_gradients_of_buckets_are_the_same_bits_for_any_number_of_threads():
    """A table of so few heads and so many distances that torch cuts the sums of a bucket."""
    before = torch.get_num_threads()
    buckets = torch.zeros(1, 32, requires_grad=True)
    weight = torch.randn(1, 100_001, generator=torch.Generator().manual_seed(0))
    bias = longattn.RelativeBias.from_t5(buckets, max_distance=100_000)
    found = []
    try:
        for threads in (1, 4, 4, 4, 4):
            torch.set_num_threads(threads)
            table = bias.relative().table
            found += torch.autograd.grad((table * weight).sum(), buckets)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_compile_with_score_arguments():
    def forward(q, k, v, slopes, table, sinks):
        first = longattn.attention(q, k, v, Causal(), bias=longattn.Alibi(slopes), softcap=5.0)
        bias = longattn.RelativeBias(table)
        second = longattn.attention(q, k, v, Causal(), bias=bias, sink_logits=sinks)
        kerple = longattn.Kerple(slopes, slopes, kind="power")
        third = longattn.attention(q, k, v, Window(9), bias=kerple)
        return first + second + third + longattn.attention(q, k, v, Causal(), bias=longattn.Alibi())

    case = Case("compile", Causal(), 50, q_heads=4)
    tensors = [t.detach() for t in inputs.qkv(case, torch.float32)]
    leaves = [*tensors, torch.rand(4), torch.rand(4, 9), torch.rand(4)]
    results = []
    for call in (forward, torch.compile(forward, fullgraph=True, backend="aot_eager")):
        wanted = [leaf.clone().requires_grad_() for leaf in leaves]
        out = call(*wanted)
        results.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)


def test_a_tensor_may_be_query_and_key_at_once():
    x = torch.randn(1, 30, 4, 8, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(longattn.attention(x, x, x, Causal()).square().sum(), x)
    theirs = torch.autograd.grad(reference.attention(x, x, x, Causal()).square().sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_biases_are_the_published_ones():
    alibi = longattn.biases.default_slopes
    assert alibi(8) == [2.0**-n for n in range(1, 9)]
    assert [round(slope, 5) for slope in alibi(12)[8:]] == [0.70711, 0.35355, 0.17678, 0.08839]
    call = longattn.biases.Call(8, 0, 10, torch.float64, torch.device("cpu"))
    sandwich = longattn.Sandwich(128).form(call).values
    expected = torch.tensor([64, 62.09369, 57.38186], dtype=torch.float64)
    torch.testing.assert_close(sandwich[0, :3] * 1.0, expected, rtol=0, atol=1e-5)
    one = longattn.biases.Call(1, 0, 10, torch.float64, torch.device("cpu"))
    log = longattn.Kerple(torch.ones(1), torch.full((1,), 0.5)).form(one).values
    power = longattn.Kerple(torch.full((1,), 0.1), torch.full((1,), 0.5), kind="power")
    assert round(log[0, 10].item(), 5) == -1.79176
    assert round(power.form(one).values[0, 9].item(), 5) == -0.3


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 33, 128])
def test_default_slopes_are_made_on_the_device(heads):
    expected = torch.tensor(longattn.biases.default_slopes(heads), dtype=torch.float64)
    call = longattn.biases.Call(heads, 0, 10, torch.float64, torch.device("cpu"))
    found = longattn.Alibi().form(call).values[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)
    elsewhere = call._replace(device=torch.device("meta"))
    for slopes in (None, expected.tolist()):
        values = longattn.Alibi(slopes).form(elsewhere).values
        assert values.device.type == "meta" and tuple(values.shape) == (heads, 1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_t5_buckets_are_those_of_transformers(bidirectional):
    t5 = pytest.importorskip(
        "transformers.models.t5.modeling_t5", reason="transformers is not installed"
    )
    relative = torch.arange(-400, 401)  # key - query
    theirs = t5.T5Attention._relative_position_bucket(relative, bidirectional, 32, 128)
    ours = longattn.biases.t5_bucket(-relative, 32, 128, bidirectional)
    assert torch.equal(ours, theirs)


EMULATED = [
    Case("ragged", Causal(), 70, 150, q_heads=HEADS, kv_heads=2, head_dim=24),
    Case("wide", Window(40, sink_tokens=3), 101, q_heads=HEADS, kv_heads=1, head_dim=72),
    Case("both sides", Band(70, 30), 131, 97, q_heads=HEADS, head_dim=16),
    Case("full", Full(), 67, 140, q_heads=HEADS, q_start=-20, k_start=11, head_dim=16),
    Case("packed", Causal(), q_lengths=(65, 0, 1, 130), kv_lengths=(70, 5, 0, 140), q_heads=HEADS,
         kv_heads=2, head_dim=16),
    Case("rows that see nothing", Causal(), 90, 40, q_heads=HEADS, head_dim=16),
    Case("no key", Causal(), 7, 0, q_heads=HEADS, head_dim=16),
]


def test_buckets_may_be_trained():
    """One bias for all steps: it holds the parameter, not what the parameter was."""
    buckets = torch.zeros(HEADS, 16, requires_grad=True)
    bias = longattn.RelativeBias.from_t5(buckets, max_distance=60)
    tensors = [tensor.detach() for tensor in inputs.qkv(SHAPES[0], torch.float32)]
    outs = []
    for _ in range(3):
        out = longattn.attention(*tensors, Causal(), bias=bias)
        (gradient,) = torch.autograd.grad(out.square().sum(), buckets)
        with torch.no_grad():
            buckets += gradient
        outs.append(out)
    assert not torch.equal(outs[0], outs[1]) and not torch.equal(outs[1], outs[2])


def test_compile_with_a_softcap_that_changes():
    compiled = torch.compile(
        lambda q, k, v, cap: longattn.attention(q, k, v, Causal(), softcap=cap),
        fullgraph=True,
        backend="aot_eager",
    )
    tensors = [tensor.detach() for tensor in inputs.qkv(SHAPES[0], torch.float32)]
    for cap in (2.0, 3.0, 4.5):
        expected = longattn.attention(*tensors, Causal(), softcap=cap)
        assert torch.equal(compiled(*tensors, cap), expected)
