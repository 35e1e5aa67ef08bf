# SPDX-License-Identifier: BSD-3-Clause
"""Rings in one process on a GPU: attention over the whole sequence, as the reference has it."""

import pytest
import torch

import closeness
import comparison
import gpu_support
import inputs
import longattn
import test_ring_decode
import test_ring_dilated
import test_scores
from cases import Case
from gpu_support import on_gpu
from longattn import reference, ring
from longattn.masks import Causal, Full, Groups, Window
from rings import LAYOUTS, RingCase, on_ranks, on_virtual_ring, with_gaps

pytestmark = gpu_support.marks

GRAIN = 8  # elements of 16 bits whose addresses the kernels take
MASKS = (Causal(), Window(37), Window(40, sink_tokens=5), Window((9, 90, 1, 30), sink_tokens=3))
DIMS = dict(head_dim=64, value_dim=40)
DOCUMENTS = (0, 3, 3, 141, 142, 203)

each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def check(case, ranks, dtype=torch.bfloat16, **keywords):
    def twin(q, k, v, **rest):
        if not case.cu_seqlens:
            return reference.attention(q, k, v, case.mask, **rest)
        borders = torch.tensor(case.cu_seqlens)
        packed = dict(cu_seqlens_q=borders, cu_seqlens_k=borders)
        out, lse = reference.attention(q[0], k[0], v[0], case.mask, **packed, **rest)
        return out[None], lse[None]

    tensors = inputs.qkv(case, dtype, grain=GRAIN)
    function = on_gpu(on_ranks(case, ranks, GRAIN, **keywords))
    comparison.compare(function, twin, tensors, {}, case.name)


@pytest.mark.parametrize("world_size", (1, 2, 4, 8))
@each_layout
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_equals_the_whole(mask, layout, world_size):
    check(RingCase(layout, mask, 203, **DIMS), ring.VirtualRing(world_size))


@each_layout
def test_other_types_masks_and_heads(layout):
    check(RingCase(layout, Window(20), 90, kv_heads=1, **DIMS), ring.VirtualRing(3), torch.float16)
    check(RingCase(layout, Groups(48, shift=(0, 0, 24, 24)), 131, **DIMS), ring.VirtualRing(4))
    check(RingCase(layout, Full(), 5, batch=2, head_dim=128, value_dim=128), ring.VirtualRing(7))


@each_layout
def test_packed_documents(layout):
    for mask in (Causal(), Window(30, sink_tokens=2)):
        case = RingCase(layout, mask, 203, cu_seqlens=DOCUMENTS, **DIMS)
        check(case, ring.VirtualRing(4))


@each_layout
def test_mesh(layout):
    check(RingCase(layout, Window(60, sink_tokens=5), 131, **DIMS), ring.VirtualMesh(2, 2))


def attention_on_a_ring(layout):
    """What test_scores.check calls as ours."""

    def attend(q, k, v, mask, *, return_lse, softmax_scale, q_start, k_start, **keywords):
        assert (q_start, k_start) == (None, 0)
        case = RingCase(layout, mask, q.shape[1])
        on_ring = on_virtual_ring(case, 4, GRAIN, **keywords)
        return on_ring(q, k, v, return_lse, softmax_scale)

    return on_gpu(attend)


@each_layout
@pytest.mark.parametrize("bias", ("alibi", "alibi learned", "table, two sides"))
def test_biases_softcap_and_sink_logits(monkeypatch, bias, layout):
    monkeypatch.setattr(longattn, "attention", attention_on_a_ring(layout))
    for mask, softcap in ((Causal(), 5.0), (Window(60, sink_tokens=5), None)):
        case = Case("ring", mask, 203, q_heads=4, kv_heads=2, head_dim=64)
        test_scores.check(case, bias, softcap, True, torch.bfloat16, grain=GRAIN)


def test_dilated_attention():
    case = RingCase("contiguous", None, 203, **DIMS)
    for branches, causal in ((((16, 64, 203), (1, 2, 3)), True), (((48, 80), (2, 5)), False)):
        comparison.compare(
            on_gpu(test_ring_dilated.distributed(case, 4, branches, GRAIN, causal=causal)),
            lambda *qkv, branches=branches, causal=causal, **rest: reference.dilated_attention(
                *qkv, *branches, causal=causal, **rest
            ),
            inputs.qkv(case, torch.bfloat16, grain=GRAIN),
            {},
            f"dilated {branches}",
        )


@each_layout
def test_decode(layout):
    """Over the keys of the plan and those that were appended."""
    length = test_ring_decode.PROMPT + 14
    q, k, v = test_ring_decode.tensors(length, 2, torch.bfloat16)
    bias, sinks = longattn.Alibi(torch.rand(4)), torch.linspace(-1, 1, 4)
    rest = dict(bias=bias, sink_logits=sinks)

    def decode(q, k, v, **keywords):
        q = with_gaps(q, GRAIN)
        plan = longattn.ring.plan(test_ring_decode.PROMPT, ring.VirtualRing(4), layout)
        appended = test_ring_decode.owners(4, length)
        keys, values = (
            [with_gaps(x.contiguous(), GRAIN) for x in test_ring_decode.cache(plan, x, appended)]
            for x in (k, v)
        )
        return plan.decode(
            *(q, keys, values, Window(60, sink_tokens=3)),
            q_start=length - 2, appended=appended, return_lse=True, **keywords,
        )  # fmt: skip

    actual = on_gpu(decode)(q, k, v, **rest)
    whole = dict(q_start=length - 2, return_lse=True, **rest)
    mask = Window(60, sink_tokens=3)
    exact = reference.attention(q.double(), k.double(), v.double(), mask, **whole)
    eager = reference.attention(q, k, v, mask, **whole)
    closeness.assert_close(actual[0], [eager[0]], exact[0], "out")
    closeness.assert_lse_close(actual[1], exact[1], 10.0)


def shards_of(plan, dtype) -> list:
    tensors = gpu_support.random_qkv(plan.seq_len, 4, 2, 64, dtype)
    return [[x.detach().requires_grad_() for x in plan.shard(tensor)] for tensor in tensors]


def results(plan, shards, mask) -> list:
    outs, lses = plan.attention(*shards, mask, return_lse=True)
    leaves = [x for side in shards for x in side]
    return [*outs, *lses, *torch.autograd.grad([*outs, *lses], leaves, [*outs, *lses])]


@each_layout
def test_the_same_bits_in_every_run(layout):
    plan = ring.plan(700, ring.VirtualRing(4), layout)
    shards = shards_of(plan, torch.bfloat16)
    first = results(plan, shards, Window(200, sink_tokens=70))
    assert all(x.isfinite().all() for x in first)
    for _ in range(10):
        again = results(plan, shards, Window(200, sink_tokens=70))
        assert all(map(torch.equal, first, again))


def test_float32_is_cast_by_autocast_and_refused_without():
    plan = ring.plan(203, ring.VirtualRing(4))
    wide = shards_of(plan, torch.float32)
    halves = [[x.detach().bfloat16().requires_grad_() for x in side] for side in wide]
    expected = results(plan, halves, Causal())
    with torch.autocast(gpu_support.DEVICE, dtype=torch.bfloat16):
        found = results(plan, wide, Causal())
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs.to(ours.dtype))
    with pytest.raises(TypeError, match=r"q has dtype torch\.float32; .* takes torch\.float16"):
        plan.attention(*wide, Causal())


@pytest.mark.parametrize("layout, mask", [("zigzag", Causal()), ("striped", Window(900))], ids=str)
def test_real_length(layout, mask):
    length = 4096
    case = RingCase(layout, mask, length)
    gpu_support.compare_in_chunks(
        on_virtual_ring(case, 8, GRAIN),
        lambda *qkv, **arguments: reference.attention(*qkv, mask, **arguments),
        gpu_support.random_qkv(length, 4, 2, 128),
        f"ring {case}",
    )
