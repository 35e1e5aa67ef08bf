# SPDX-License-Identifier: BSD-3-Clause
"""Plans: sharding, labels, and wrong calls, which raise before any rank waits for another."""

import dataclasses
import inspect

import pytest
import torch
from torch.autograd import forward_ad

import inputs
import longattn
from longattn import ring
from longattn.masks import Causal
from rings import LAYOUTS


def test_the_papers_examples():
    """SPLIT of 8 positions over 2 ranks, as the papers of both layouts draw it."""

    def owned(layout):
        return [rows.tolist() for rows in ring.plan(8, ring.VirtualRing(2), layout).positions()]

    assert owned("contiguous") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert owned("zigzag") == [[0, 1, 6, 7], [2, 3, 4, 5]]
    assert owned("striped") == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_positions_of_documents_begin_anew():
    plan = ring.plan(7, ring.VirtualRing(2), "contiguous", cu_seqlens=torch.tensor([0, 2, 7]))
    assert [rows.tolist() for rows in plan.positions()] == [[0, 1, 0], [1, 2, 3, 4]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("borders", (None, [0, 4, 15]), ids=str)
def test_shards_are_rotated_at_their_positions(layout, borders):
    plan = ring.plan(15, ring.VirtualRing(4), layout, cu_seqlens=borders)
    rope = longattn.RotaryEmbedding(8)
    q, k = torch.randn(2, 1, 15, 2, 8)
    shards = zip(plan.shard(q), plan.shard(k), plan.positions())
    rotated = [longattn.apply_rotary(*pair, rope, rows) for *pair, rows in shards]
    ends = borders or [0, 15]
    positions = torch.cat([torch.arange(b - a) for a, b in zip(ends, ends[1:])])
    expected = longattn.apply_rotary(q, k, rope, positions)
    for ours, theirs in zip(zip(*rotated), expected):
        assert torch.equal(plan.unshard(ours), theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dim", (0, 1, -2))
def test_shard_and_unshard(layout, dim):
    plan = ring.plan(11, ring.VirtualRing(3), layout)
    shape = [2, 5, 4]
    shape[dim] = 11
    whole = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    shards = plan.shard(whole, dim)
    assert tuple(shard.shape[dim] for shard in shards) == plan.lengths
    assert torch.equal(plan.unshard(shards, dim), whole)
    torch.autograd.gradcheck(lambda x: plan.unshard(plan.shard(x, dim), dim), whole)
    for shard in shards:
        shard.data.zero_()
    assert whole.abs().min() > 0, "shards are copies"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("borders", ((0, 10), (0, 0, 1, 6, 6, 10)), ids=str)
def test_labels_are_the_next_tokens(layout, borders):
    """The token after a rank's last one lives on another rank; none follows a document's end."""
    plan = ring.plan(10, ring.VirtualRing(3), layout, cu_seqlens=list(borders))
    tokens = torch.arange(100, 110)[None]
    following = torch.tensor([[-100 if t + 1 in borders else 101 + t for t in range(10)]])
    assert torch.equal(plan.unshard(plan.shard_labels(tokens)), following)
    weights = plan.shard_labels(torch.ones(1, 10), fill=0)
    assert sum(shard.sum() for shard in weights) == (following >= 0).sum()


def test_sharded_loss_is_the_loss():
    """The recipe of docs/ring.md: sums of losses over all ranks, by the labels of all ranks."""
    plan = ring.plan(13, ring.VirtualRing(4), "zigzag")
    tokens = torch.randint(0, 9, (2, 13), generator=inputs.generator("tokens"))
    logits = torch.randn(2, 13, 9, generator=inputs.generator("logits"))

    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), reduction="sum"
        )

    whole = loss(logits[:, :-1], tokens[:, 1:]) / (2 * 12)
    labels = plan.shard_labels(tokens)
    total = sum(loss(*pair) for pair in zip(plan.shard(logits), labels))
    torch.testing.assert_close(total / sum((x >= 0).sum() for x in labels), whole)


def shards(plan, heads=2, dim=8, **options):
    return [torch.randn(1, rows, heads, dim, **options) for rows in plan.lengths]


@pytest.mark.parametrize(
    "arguments, error, sentence",
    [
        (dict(seq_len=8.0), TypeError, "seq_len must be an integer, got 8.0"),
        (dict(seq_len=-1), ValueError, "seq_len must be at least 0, got -1"),
        (dict(layout="ring"), ValueError, r"layout must be one of \['contiguous', .* got 'ring'"),
        (dict(cu_seqlens=[0, 5]), ValueError, "must end at the total length 8, got 5"),
        (dict(cu_seqlens=[0, 5, 4, 8]), ValueError, "must not decrease"),
        (dict(cu_seqlens=[0, 2.5, 8]), TypeError, "cu_seqlens must be integers"),
        (dict(group=None), ValueError, "call init_process_group"),
        (dict(group=4), TypeError, "group must be None, a process group.* got 4"),
    ],
    ids=str,
)
def test_wrong_plans(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        ring.plan(**{"seq_len": 8, "group": ring.VirtualRing(2), **arguments})


@pytest.mark.parametrize("size", (0, -1, 2.0, True, None))
def test_wrong_rings(size):
    with pytest.raises(ValueError, match="world_size must be an integer of at least 1"):
        ring.VirtualRing(size)


def test_a_plan_does_not_change():
    plan = ring.plan(8, ring.VirtualRing(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.geometry = None
    assert (plan.seq_len, plan.layout, plan.world_size, plan.lengths) == (8, "zigzag", 2, (4, 4))
    assert repr(plan) == "<plan of 8 positions over 2 ranks, zigzag>"


INFINITE = torch.full((2,), float("inf"))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_wrong_calls_of_other_kinds():
    plan = ring.plan(8, ring.VirtualRing(2))
    q, k, v = (shards(plan) for _ in range(3))
    arrays = [x.numpy() for x in q]
    nested = [torch.nested.nested_tensor([x[0]]) for x in q]
    for call, sentence in (
        (lambda: plan.attention(arrays, k, v, Causal()), "q must be a torch.Tensor, got ndarray"),
        (lambda: plan.attention(nested, k, v, Causal()), r"ring.plan\(seq_len, cu_seqlens="),
        (lambda: plan.attention(q, k, v, causal=True), "the mask says it: longattn.Causal"),
        (lambda: plan.attention(q, k, v, cu_seqlens_q=q[0]), "documents belong to the plan"),
        (lambda: longattn.attention(q[0], k[0], v[0], Causal(), plan=plan), "call plan.attention"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            call()


def test_wrong_calls():
    plan = ring.plan(9, ring.VirtualRing(2), "contiguous")
    q, k, v = (shards(plan) for _ in range(3))
    wrong = [
        ((q, k, v), {}, TypeError, "mask is required"),
        ((q[0], k, v, Causal()), {}, ValueError, "lists of 2 shards, one a rank, got Tensor"),
        ((q[:1], k, v, Causal()), {}, ValueError, "lists of 2 shards, one a rank, got 1 of them"),
        ((q[::-1], k, v, Causal()), {}, ValueError, "q must have the 4 rows of rank 0"),
        ((q, k, v[::-1], Causal()), {}, ValueError, "k and v must agree"),
        ((q, k, v, Causal()), dict(q_start=0), TypeError, "unexpected keyword argument 'q_start'"),
        ((q, k, v, Causal()), dict(dropout_p=0.1), NotImplementedError, "no dropout"),
        ((q, k, v, Causal()), dict(backend="tpu"), ValueError, "backend must be None or one of"),
        ((q, k, v, Causal()), dict(softcap=0.0), ValueError, "softcap must be in"),
        ((q, k, v, Causal()), dict(return_lse=1), TypeError, "return_lse must be True or False"),
        ((q, k, v, Causal()), dict(sink_logits=INFINITE), ValueError, "must hold finite numbers"),
    ]
    for arguments, keywords, error, sentence in wrong:
        with pytest.raises(error, match=sentence):
            plan.attention(*arguments, **keywords)
    with pytest.raises(ValueError, match="dimension 1 of x must have length 9"):
        plan.shard(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="dimension 1 of x must have length 4"):
        plan.unshard([torch.zeros(2, 5), torch.zeros(2, 4)])


def test_second_derivatives_raise():
    plan = ring.plan(8, ring.VirtualRing(2))
    q, k, v = (shards(plan, requires_grad=True) for _ in range(3))
    out = plan.attention(q, k, v, Causal())[0]
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        torch.autograd.grad(out.sum(), q[0], create_graph=True)


@pytest.mark.parametrize("group", (ring.VirtualRing(2), ring.VirtualMesh(1, 2)), ids=type)
def test_forward_mode_raises(group):
    plan = ring.plan(8, group)
    q, k, v = (shards(plan) for _ in range(3))
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, torch.ones_like(x)) for x in q]
        with pytest.raises(NotImplementedError, match="plan.attention has no forward-mode"):
            plan.attention(duals, k, v, Causal())
        with pytest.raises(NotImplementedError, match="plan.unshard has no forward-mode"):
            plan.unshard(duals)


def test_transforms_of_torch_func_are_refused():
    plan = ring.plan(8, ring.VirtualRing(2))
    q, k, v = (shards(plan) for _ in range(3))
    for call, name in (
        (lambda x: plan.attention([x, q[1]], k, v, Causal())[0].sum(), "plan.attention"),
        (lambda x: plan.unshard([x, q[1]]).sum(), "plan.unshard"),
    ):
        with pytest.raises(NotImplementedError, match=f"{name} cannot be transformed by torch.fu"):
            torch.func.grad(call)(q[0])


@pytest.mark.parametrize("layout", ("contiguous", "zigzag", "striped"))
@pytest.mark.parametrize("group", (ring.VirtualRing(3), ring.VirtualMesh(2, 2)), ids=type)
def test_shards_rotate_as_the_whole(group, layout):
    """By the whole's length too, and xPos from one centre."""
    plan = ring.plan(61, group, layout)
    q, k, v = torch.randn(3, 1, 61, 4, 16, dtype=torch.float64)
    ropes = {
        "plain": longattn.RotaryEmbedding(16),
        "dynamic NTK": longattn.RotaryEmbedding(
            16, scaling=dict(rope_type="dynamic", factor=4.0), max_position_embeddings=16
        ),
        "xPos": longattn.RotaryEmbedding(16, xpos_scale_base=32),
    }
    for rope in ropes.values():
        sharded = plan.apply_rotary(plan.shard(q), plan.shard(k), rope)
        for ours, whole in zip(sharded, longattn.apply_rotary(q, k, rope), strict=True):
            torch.testing.assert_close(plan.unshard(ours), whole)
    with pytest.raises(TypeError, match="takes no positions: the plan has its own"):
        plan.apply_rotary(plan.shard(q), plan.shard(k), ropes["plain"], positions=None)
    with pytest.raises(ValueError, match=r"q must have the .* rows of rank 0, \[batch, rows,"):
        plan.apply_rotary([q] * plan.world_size, plan.shard(k), ropes["plain"])
    packed = ring.plan(61, group, layout, cu_seqlens=[0, 20, 61])
    both = packed.apply_rotary(packed.shard(q), packed.shard(k), ropes["plain"])
    separate = [
        torch.cat(parts, 1)
        for parts in zip(*(
            longattn.apply_rotary(q[:, own], k[:, own], ropes["plain"])
            for own in (slice(0, 20), slice(20, 61))
        ))
    ]  # fmt: skip
    for ours, whole in zip(both, separate, strict=True):
        torch.testing.assert_close(packed.unshard(ours), whole)
    with pytest.raises(NotImplementedError, match="packed documents by a rope that depends on"):
        packed.apply_rotary(packed.shard(q), packed.shard(k), ropes["dynamic NTK"])


def test_autocast_and_inference():
    plan = ring.plan(12, ring.VirtualRing(3))
    q, k, v = (shards(plan) for _ in range(3))
    narrow = ([x.bfloat16() for x in side] for side in (q, k, v))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outs = plan.attention(q, k, v, Causal())
    for out, expected in zip(outs, plan.attention(*narrow, Causal()), strict=True):
        assert out.dtype == torch.bfloat16 and torch.equal(out, expected)
    with torch.inference_mode():
        outs = plan.attention(q, k, v, Causal())
    assert torch.equal(torch.stack(outs), torch.stack(plan.attention(q, k, v, Causal())))


def test_keywords_are_those_of_attention():
    own = inspect.signature(ring.Plan.attention).parameters
    common = dict(inspect.signature(longattn.attention).parameters)
    for name in ("q_start", "k_start", "cu_seqlens_q", "cu_seqlens_k"):  # the plan's
        del common[name]
    assert {n: p.default for n, p in own.items() if n != "self"} == {
        n: p.default for n, p in common.items()
    }


def test_labels_that_cannot_hold_the_fill():
    plan = ring.plan(20, ring.VirtualRing(2))
    labels = torch.arange(20, dtype=torch.uint8)[None]
    with pytest.raises(ValueError, match=r"torch.uint8 cannot hold fill=-100: .*labels.long\(\)"):
        plan.shard_labels(labels)
    assert plan.shard_labels(labels, fill=255)[0][0, -1] == 255
    weights = torch.ones(1, 20, dtype=torch.bfloat16)
    assert plan.shard_labels(weights, fill=0)[0][0, -1] == 0


def test_second_derivatives_through_unshard_raise():
    plan = ring.plan(20, ring.VirtualRing(2))
    shards = [torch.ones(1, n, requires_grad=True) for n in plan.lengths]
    loss = plan.unshard(shards).pow(3).sum()
    with pytest.raises(NotImplementedError, match="plan.unshard has no second derivatives"):
        torch.autograd.grad(loss, shards, create_graph=True)
