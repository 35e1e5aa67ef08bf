# SPDX-License-Identifier: BSD-3-Clause
"""Ring attention in one process equals attention over the whole sequence, forward and backward."""

import pytest
import torch

import comparison
import inputs
import longattn
from longattn import reference, ring
from longattn.masks import Causal, Full, Groups, Window
from longattn.ring.rank import Rank
from rings import LAYOUTS, MASKS, UNEVEN_GROUPS, RingCase, on_virtual_ring

LENGTHS = {1: 61, 2: 96, 3: 101, 4: 127, 8: 98}


def check(case, world_size, dtype, grain=1, **keywords):
    def twin(q, k, v, **rest):
        return reference.attention(q, k, v, case.mask, **rest)

    tensors = inputs.qkv(case, dtype, grain=grain)
    function = on_virtual_ring(case, world_size, grain, **keywords)
    comparison.compare(function, twin, tensors, {}, case.name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("world_size", LENGTHS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_equals_the_whole(mask, world_size, layout):
    check(RingCase(layout, mask, LENGTHS[world_size]), world_size, torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", UNEVEN_GROUPS, ids=str)
def test_borders_of_groups_between_rows(mask, layout):
    for world_size in (2, 4):
        check(RingCase(layout, mask, 79), world_size, torch.float64)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS[:4], ids=str)
def test_dtypes(mask, layout, dtype):
    case = RingCase(layout, mask, 150, q_heads=2, kv_heads=1, head_dim=32, value_dim=32, batch=2)
    check(case, 4, dtype)


@pytest.mark.parametrize("seq_len", (0, 1, 2, 5, 7))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", (Full(), Window(2, sink_tokens=1)), ids=str)
def test_ranks_without_rows(mask, layout, seq_len):
    check(RingCase(layout, mask, seq_len), 4, torch.float64)


@pytest.mark.parametrize("kv_heads", (1, 4))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_head_counts(layout, kv_heads):
    check(RingCase(layout, Causal(), 83, kv_heads=kv_heads, batch=0), 3, torch.float64)
    check(RingCase(layout, Causal(), 83, kv_heads=kv_heads, batch=2), 3, torch.float64)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_logits(layout):
    check(RingCase(layout, Causal(), 90, loudness=40.0), 4, torch.float64)


def biases():
    def random(*shape):
        return inputs.random(shape, torch.float64, shape, "bias").abs().requires_grad_()

    yield "alibi", longattn.Alibi(), ()
    slopes = random(4)
    yield "learned alibi", longattn.Alibi(slopes), (slopes,)
    r1, r2 = random(4), random(4)
    yield "kerple", longattn.Kerple(r1, r2), (r1, r2)
    table = random(4, 41)
    yield "table", longattn.RelativeBias(table, origin=17), (table,)
    buckets = random(4, 8)
    t5 = longattn.RelativeBias.from_t5(buckets, max_distance=40, bidirectional=True)
    yield "t5", t5, (buckets,)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", (Full(), Window(30, sink_tokens=4)), ids=str)
@pytest.mark.parametrize("bias, learned", [b[1:] for b in biases()], ids=[b[0] for b in biases()])
def test_scores(bias, learned, mask, layout):
    """Bias, softcap and sink logits, with the gradients of what is learned."""
    case = RingCase(layout, mask, 107)
    q, k, v = inputs.qkv(case, torch.float64)
    sinks = inputs.random((4,), torch.float64, "sinks").requires_grad_()
    learned = (q, k, v, sinks, *learned)
    keywords = dict(bias=bias, softcap=3.0, sink_logits=sinks)
    d_out, d_lse = comparison.output_gradients((q, k, v), case.name)
    actual = on_virtual_ring(case, 4, **keywords)(q, k, v, return_lse=True)
    exact = reference.attention(q, k, v, mask, return_lse=True, **keywords)
    actual += torch.autograd.grad(actual, learned, (d_out, d_lse))
    exact += torch.autograd.grad(exact, learned, (d_out, d_lse))
    for ours, theirs in zip(actual, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


DOCUMENTS = ((0, 83), (0, 3, 3, 41, 42, 43, 83), (0, 40, 80, 83), (0, 0, 83, 83))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("borders", DOCUMENTS, ids=str)
@pytest.mark.parametrize(
    "mask", (Full(), Causal(), Window(6, sink_tokens=2), Groups(12)), ids=str
)
def test_packed_documents_lie_across_ranks(mask, borders, layout):
    cu_seqlens = torch.tensor(borders)
    for world_size in (1, 3, 4):
        case = RingCase(layout, mask, 83, cu_seqlens=borders)

        def twin(q, k, v, **rest):
            packed = (x[0] for x in (q, k, v))
            borders = dict(cu_seqlens_q=cu_seqlens, cu_seqlens_k=cu_seqlens)
            out, lse = reference.attention(*packed, mask, **borders, **rest)
            return out[None], lse[None]

        tensors = inputs.qkv(case, torch.float64)
        comparison.compare(on_virtual_ring(case, world_size), twin, tensors, {}, case.name)


def run_once(case, world_size, dtype):
    tensors = inputs.qkv(case, dtype)
    d_out, d_lse = comparison.output_gradients(tensors, case.name)
    function = on_virtual_ring(case, world_size)
    actual = comparison.results(function, tensors, {}, d_out, d_lse)
    return actual.out, actual.lse, *actual.gradients


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_bits_in_every_run(layout):
    case = RingCase(layout, Window(70, sink_tokens=4), 201)
    for one, two in zip(*(run_once(case, 4, torch.bfloat16) for _ in range(2)), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_error_of_bfloat16_does_not_grow_with_the_world(layout):
    """Partials and travelling gradients are float32: a line through the errors stays flat."""
    case = RingCase(layout, Causal(), 256, head_dim=32, value_dim=32)
    tensors = inputs.qkv(case, torch.bfloat16)
    wide = [comparison.plain(x, torch.float64) for x in tensors]
    d_out, d_lse = comparison.output_gradients(tensors, case.name)
    exact = comparison.results(
        lambda *qkv, **rest: reference.attention(*qkv, case.mask, **rest),
        *(wide, {}, d_out.double(), d_lse.double()),
    )
    exact = (exact.out, *exact.gradients)

    def errors_of(world_size):
        out, _, *gradients = run_once(case, world_size, torch.bfloat16)
        pairs = zip((out, *gradients), exact, strict=True)
        return [(ours - theirs).square().mean().sqrt().item() for ours, theirs in pairs]

    worlds = torch.arange(1, 9, dtype=torch.float64)
    errors = torch.tensor([errors_of(int(world)) for world in worlds], dtype=torch.float64)
    centred = worlds - worlds.mean()
    slopes = (centred[:, None] * errors).sum(0) / centred.square().sum()
    growth = slopes * (worlds[-1] - worlds[0]) / errors.mean(0)
    for name, share in zip(("out", "dq", "dk", "dv"), growth.tolist()):
        assert share < 0.05, f"{name}: the error grows by {share:.1%} from 1 rank to 8"


def visible_pairs(plan, mask) -> list:
    everything = torch.arange(plan.seq_len)
    return [int(reference.visible(mask, rows, everything).sum()) for rows in plan.positions()]


@pytest.mark.parametrize("world_size", (2, 4, 8))
@pytest.mark.parametrize("seq_len", (2048, 2039))
def test_zigzag_is_balanced(seq_len, world_size):
    pairs = {
        layout: visible_pairs(ring.plan(seq_len, ring.VirtualRing(world_size), layout), Causal())
        for layout in LAYOUTS
    }
    mean = seq_len * (seq_len + 1) / 2 / world_size
    assert max(pairs["zigzag"]) <= 1.05 * mean
    assert max(pairs["striped"]) <= 1.05 * mean
    assert max(pairs["contiguous"]) > 1.4 * mean


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", (Causal(), Window(20, sink_tokens=3)), ids=str)
def test_emulated_kernels(simt, mask, layout, dtype):
    """The CUDA kernels merge into the same accumulators."""
    case = RingCase(layout, mask, 77, q_heads=2, kv_heads=1, head_dim=16, value_dim=16)
    check(case, 3, dtype, grain=8, backend="simt")


def test_a_call_that_failed_leaves_nothing_to_the_next(monkeypatch):
    case = RingCase("zigzag", Causal(), 40)
    q, k, v = inputs.qkv(case, torch.float64)
    plan = case.plan(ring.VirtualRing(3))
    shards = [plan.shard(x) for x in (q, k, v)]
    expected = plan.attention(*shards, Causal())
    run_forward = Rank.run_forward

    def fails_on_rank_1(me, *problem):
        if me.rank == 1:
            raise MemoryError
        return run_forward(me, *problem)

    with monkeypatch.context() as patched:
        patched.setattr(Rank, "run_forward", fails_on_rank_1)
        with pytest.raises(MemoryError):
            plan.attention(plan.shard(q), plan.shard(2 * k), plan.shard(3 * v), Causal())
    for actual, truth in zip(plan.attention(*shards, Causal()), expected, strict=True):
        assert torch.equal(actual, truth)
