# SPDX-License-Identifier: BSD-3-Clause
"""What each process of a group runs to show that a ring of processes is the ring of one process,
with NCCL on a GPU each or with gloo on the CPU."""

import itertools

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

import inputs
import longattn
from longattn import ring
from longattn.masks import Causal, Full, Window
from longattn.ring.agreement import compare
from longattn.ring.process_group import ProcessGroup
from ring_workers import compare_with_a_virtual_one
from rings import LAYOUTS, RingCase

LENGTH = 131
GRAIN = 8
MASKS = (Full(), Causal(), Window(40, sink_tokens=5))


def work(rank: int, device_type: str) -> list:
    """-> names of what was found to hold."""
    device = torch.device(device_type, rank if device_type == "cuda" else None)
    if device_type == "cuda":
        torch.cuda.set_device(device)
    world_size = dist.get_world_size()
    for check in CHECKS:
        check(device, world_size)
    return [check.__name__ for check in CHECKS]


def connects(device, world_size) -> None:
    """In a group of its own, whose first messages go between two ranks alone, and unannounced."""
    length = 2 * world_size
    borders = [0, *range(min(4, length), length + 1, 2)]
    plan = ring.plan(length, dist.new_group(), "contiguous", check=False, cu_seqlens=borders)
    x = torch.ones(1, 2, 1, 8, dtype=torch.bfloat16, device=device, requires_grad=True)
    out = plan.attention(x, x, x, Window(3))
    out.sum().backward()
    assert torch.equal(out, x) and x.grad.isfinite().all()


def attends(device, world_size) -> None:
    for layout, mask in itertools.product(LAYOUTS, MASKS):
        case = RingCase(layout, mask, LENGTH, head_dim=64, value_dim=40)
        virtual = ring.VirtualRing(world_size)
        compare_with_a_virtual_one(case, torch.bfloat16, None, virtual, device, GRAIN)


def attends_on_a_mesh(device, world_size) -> None:
    heads = 2 if world_size % 2 == 0 else 1
    shape = (world_size // heads, heads)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=("ring", "heads"))
    case = RingCase("zigzag", Causal(), LENGTH, head_dim=64, value_dim=40)
    virtual = ring.VirtualMesh(*shape)
    compare_with_a_virtual_one(case, torch.bfloat16, mesh, virtual, device, GRAIN)


def whole(device) -> list:
    return [
        inputs.random((1, LENGTH, count, 64), torch.bfloat16, name, grain=GRAIN).to(device)
        for name, count in zip("qkv", (4, 2, 2))
    ]


def learned(device) -> dict:
    return dict(
        bias=longattn.Alibi(torch.linspace(0.01, 1, 4, device=device)),
        sink_logits=torch.linspace(-1, 1, 4, device=device),
    )


def unshards(device, world_size) -> None:
    x = whole(device)[0].requires_grad_()
    for layout in LAYOUTS:
        plan = ring.plan(LENGTH, layout=layout)
        again = plan.unshard(plan.shard(x))
        assert torch.equal(again, x)
        [gradient] = torch.autograd.grad(again.float().square().sum() / world_size, x)
        [gradient] = plan.communicator.all_reduce([gradient.float()])
        torch.testing.assert_close(gradient, 2 * x.detach().float(), rtol=0.02, atol=1e-3)


def decodes(device, world_size) -> None:
    """Sums over ranks may be made in another order."""
    q, k, v = whole(device)
    found = []
    for group in (None, ring.VirtualRing(world_size)):
        plan = ring.plan(LENGTH, group, "striped")
        keys = [plan.shard(x) for x in (k, v)]
        found.append(plan.decode(
            q[:, -1:], *keys, Window(60, sink_tokens=3), q_start=LENGTH - 1, return_lse=True,
            **learned(device),
        ))  # fmt: skip
    (out, lse), (expected, expected_lse) = found
    torch.testing.assert_close(out, expected, rtol=0.01, atol=1e-3)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-5, atol=1e-5)


def dilates(device, world_size) -> None:
    def results(group):
        plan = ring.plan(LENGTH, group, "contiguous")
        held = plan.communicator.split
        sides = [[x.requires_grad_() for x in held(plan.shard(x))] for x in whole(device)]
        outs = longattn.dilated_attention(
            *map(plan.communicator.join, sides), (16, 64, LENGTH), (1, 3, 2), plan=plan,
            **learned(device),
        )  # fmt: skip
        outs = held(outs)
        gradients = torch.autograd.grad(outs, [x for side in sides for x in side], outs)
        count = len(outs)
        return [outs, *(gradients[i : i + count] for i in range(0, 3 * count, count))]

    pairs = zip(results(None), results(ring.VirtualRing(world_size)), strict=True)
    for [mine], everyones in pairs:
        assert torch.equal(mine, everyones[dist.get_rank()])


def agrees(device, world_size) -> None:
    ranks = ProcessGroup()
    q = whole(device)[0]
    compare(ranks, "attention", [dict(q=q, mask=Causal())])
    if world_size == 1:
        return
    try:
        compare(ranks, "attention", [dict(rank=min(ranks.rank, 1))])
    except ValueError as error:
        assert "ranks disagree in attention: rank is " in str(error)
    else:
        raise AssertionError("ranks that differ were not told so")


def gathers_and_reduces(device, world_size) -> None:
    ranks = ProcessGroup()
    mine = torch.full((3,), float(ranks.rank), device=device)
    for dtype in (torch.bool, torch.int16, torch.bfloat16, torch.complex64):
        everyones = ranks.all_gather([mine.to(dtype)])
        for rank, one in enumerate(everyones):
            assert torch.equal(one, torch.full_like(mine, rank).to(dtype))
    [total], [top] = ranks.all_reduce([mine]), ranks.all_reduce([mine], "max")
    assert total.tolist() == [world_size * (world_size - 1) / 2] * 3
    assert top.tolist() == [world_size - 1] * 3
    assert ranks.gather_objects([str(ranks.rank)]) == list(map(str, range(world_size)))


CHECKS = (
    connects, attends, attends_on_a_mesh, unshards, decodes, dilates, agrees, gathers_and_reduces,
)  # fmt: skip
