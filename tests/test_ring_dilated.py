# SPDX-License-Identifier: BSD-3-Clause
"""Dilated attention over ranks equals that of one process, and sends kept keys alone."""

import pytest
import torch

import comparison
import inputs
import longattn
from longattn import reference, ring
from rings import RingCase, with_gaps

BRANCHES = (
    ((8, 16), (1, 2)),  # within ranks, where lengths divide
    ((16, 32, 200), (1, 3, 4)),  # 3 divides nothing; longer than the sequence
    ((7, 13), (2, 5)),
    ((48,), (9,)),  # a rate above the number of heads
)
NO_MASK = None  # branches say who sees whom


def distributed(case, world_size, branches, grain=1, **keywords):
    """A twin of reference.dilated_attention: whole tensors in, whole tensors out."""

    def attend(q, k, v, return_lse):
        plan = case.plan(ring.VirtualRing(world_size))
        q, k, v = ([with_gaps(shard, grain) for shard in plan.shard(x)] for x in (q, k, v))
        outs, lses = longattn.dilated_attention(
            *(q, k, v, *branches), plan=plan, return_lse=return_lse, **keywords
        )
        return plan.unshard(outs), plan.unshard(lses, dim=2)

    return attend


def check(case, world_size, branches, dtype, grain=1, backend=None, **keywords):
    comparison.compare(
        distributed(case, world_size, branches, grain, backend=backend, **keywords),
        lambda q, k, v, **rest: reference.dilated_attention(q, k, v, *branches, **keywords, **rest),
        inputs.qkv(case, dtype, grain=grain),
        {},
        f"{case} {branches}",
    )


@pytest.mark.parametrize("head_offset", ("mod", "blocks"))
@pytest.mark.parametrize("causal", (True, False))
@pytest.mark.parametrize("branches", BRANCHES, ids=str)
@pytest.mark.parametrize("seq_len, world_size", ((64, 4), (61, 1), (61, 3), (5, 7), (96, 2)))
def test_equals_one_process(seq_len, world_size, branches, causal, head_offset):
    keywords = dict(causal=causal, head_offset=head_offset)
    for kv_heads in (1, 2, 4):
        case = RingCase("contiguous", NO_MASK, seq_len, kv_heads=kv_heads)
        check(case, world_size, branches, torch.float64, **keywords)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_dtypes(dtype):
    case = RingCase("contiguous", NO_MASK, 150, head_dim=32, value_dim=32, batch=2)
    check(case, 4, BRANCHES[1], dtype)


@pytest.mark.parametrize("causal", (True, False))
@pytest.mark.parametrize("branches", BRANCHES, ids=str)
def test_detached_weights(branches, causal):
    case = RingCase("contiguous", NO_MASK, 67)
    check(case, 3, branches, torch.float64, causal=causal, detach_weights=True)


@pytest.mark.parametrize("branches", BRANCHES, ids=str)
@pytest.mark.parametrize("kind", ("alibi", "kerple"))
def test_scores(kind, branches):
    """Bias, softcap and sink logits, with the gradients of what is learned."""
    case = RingCase("contiguous", NO_MASK, 67)
    q, k, v = inputs.qkv(case, torch.float64)
    a, b, sinks = (inputs.random((4,), torch.float64, i).abs().requires_grad_() for i in range(3))
    bias, learned = {
        "alibi": (longattn.Alibi(a), (a,)),
        "kerple": (longattn.Kerple(a, b), (a, b)),
    }[kind]
    learned = (q, k, v, sinks, *learned)
    keywords = dict(bias=bias, softcap=3.0, sink_logits=sinks)
    d_out, d_lse = comparison.output_gradients((q, k, v), case.name)
    actual = distributed(case, 4, branches, **keywords)(q, k, v, return_lse=True)
    exact = reference.dilated_attention(q, k, v, *branches, return_lse=True, **keywords)
    actual += torch.autograd.grad(actual, learned, (d_out, d_lse))
    exact += torch.autograd.grad(exact, learned, (d_out, d_lse))
    for ours, theirs in zip(actual, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_emulated_kernels(simt):
    case = RingCase("contiguous", NO_MASK, 77, head_dim=16, value_dim=16)
    check(case, 3, BRANCHES[1], torch.bfloat16, grain=8, backend="simt")


def numbers_sent(seq_len, world_size, branches, causal) -> tuple:
    """Forward and backward, in numbers for each head and dimension."""
    plan = ring.plan(seq_len, ring.VirtualRing(world_size), "contiguous")
    whole = torch.randn(3, 1, seq_len, 4, 8, dtype=torch.float64)
    q, k, v = ([x.requires_grad_() for x in plan.shard(tensor)] for tensor in whole)
    outs = longattn.dilated_attention(q, k, v, *branches, plan=plan, causal=causal)
    forward = plan.communicator.traffic.bytes
    sum(out.sum() for out in outs).backward()
    size = 8 * 4 * (8 + 8)
    return forward / size, (plan.communicator.traffic.bytes - forward) / size


def test_local_branches_send_nothing():
    assert numbers_sent(64, 4, ((4, 8, 16), (1, 2, 4)), True) == (0, 0)


@pytest.mark.parametrize("rate", (1, 2, 4))
def test_kept_keys_alone_travel(rate):
    """Each of 4 ranks keeps 16 / rate of its keys in each head; they go to the ranks behind it, or
    to all others. The backward pass brings keys once more and gradients home, both in float64."""
    forward, backward = numbers_sent(64, 4, ((64,), (rate,)), True)
    assert (forward, backward) == (6 * 16 / rate, 12 * 16 / rate)
    forward, backward = numbers_sent(64, 4, ((64,), (rate,)), False)
    assert (forward, backward) == (12 * 16 / rate, 24 * 16 / rate)
    forward, _ = numbers_sent(64, 4, ((32,), (rate,)), False)
    assert forward == 4 * 16 / rate, "pairs of ranks share a segment"


def test_wrong_calls():
    ranks = ring.VirtualRing(2)
    plan = ring.plan(8, ranks, "contiguous")
    q, k, v = ([torch.randn(1, 4, 2, 8) for _ in range(2)] for _ in range(3))

    def attend(plan, **keywords):
        longattn.dilated_attention(q, k, v, [4], [1], plan=plan, **keywords)

    with pytest.raises(TypeError, match="plan must be made by longattn.ring.plan, got str"):
        attend("contiguous")
    for layout in ("zigzag", "striped"):
        with pytest.raises(ValueError, match=f"layout 'contiguous', .* got '{layout}'"):
            attend(ring.plan(8, ranks, layout))
    with pytest.raises(ValueError, match="takes no packed documents"):
        attend(ring.plan(8, ranks, "contiguous", cu_seqlens=[0, 8]))
    with pytest.raises(ValueError, match="q_start and k_start belong to the plan"):
        attend(plan, q_start=0)
    with pytest.raises(ValueError, match="q must have the 5 rows of rank 0"):
        attend(ring.plan(10, ranks, "contiguous"))
