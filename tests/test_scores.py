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


def check(case, bias, softcap, sinks, dtype, loudness=1.0, **engine):
    shapes, build = BIASES[bias] if bias else ((), lambda: None)
    generator = torch.Generator().manual_seed(11)
    leaves = parameters(generator, *shapes)
    sink_logits = torch.randn(HEADS, generator=generator, dtype=torch.float64) if sinks else None
    tensors = inputs.qkv(case, dtype)
    tensors = [tensors[0] * loudness, *tensors[1:]]
    arguments = inputs.call_arguments(case) | {"softcap": softcap}
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
