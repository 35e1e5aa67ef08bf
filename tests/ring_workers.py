# SPDX-License-Identifier: BSD-3-Clause
"""What each process of test_ring_processes.py runs: all cases, in groups of several sizes."""

import itertools
import traceback

import torch
import torch.distributed as dist

import closeness
import comparison
import inputs
import longattn
from longattn import reference, ring
from longattn.masks import Causal, Full, Groups, Window
from rings import LAYOUTS, RingCase

WORLD_SIZE = 8
GROUPS = ((0,), (0, 1), (2, 5, 7), (0, 1, 2, 3), tuple(range(8)))  # global ranks
MASKS = (
    Full(),
    Causal(),
    Window(9, sink_tokens=3),
    Groups(48, shift=(0, 0, 24, 24)),
    Window((3, 90, 1, 20), sink_tokens=(0, 2, 50, 1)),
)
DOCUMENTS = (0, 3, 3, 41, 42, 83)
NAMES = ("out", "lse", "dq", "dk", "dv")


def cases(size: int):
    for layout, mask in itertools.product(LAYOUTS, MASKS):
        yield RingCase(layout, mask, 48 + 7 * size)
    for layout in LAYOUTS:
        yield RingCase(layout, Causal(), 83, kv_heads=1, cu_seqlens=DOCUMENTS, batch=2)
        yield RingCase(layout, Causal(), 3, kv_heads=4)  # some ranks have no rows


def work(rank: int, folder) -> None:
    """Runs everything that has this rank in its group; writes down what ran, and what failed."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD_SIZE)
    groups = [dist.new_group(list(members)) for members in GROUPS]
    report = []
    for members, group in zip(GROUPS, groups):
        if rank not in members:
            continue
        for test in TESTS:
            report.append(f"ran {test.__name__} in {members}")
            try:
                test(group, len(members))
            except Exception:
                # The others of the group would wait for this rank: none goes on.
                report.append(f"failed on rank {rank}: {traceback.format_exc()}")
                break
        else:
            continue
        break
    (folder / f"{rank}.txt").write_text("\n".join(report))
    dist.destroy_process_group()


def attend(plan, case, *qkv) -> tuple:
    return plan.attention(*qkv, case.mask, return_lse=True)


def dilate(plan, case, *qkv) -> tuple:
    return longattn.dilated_attention(*qkv, [8, 16, 40], [1, 3, 4], plan=plan, return_lse=True)


def on_shards(plan, case, tensors, d_out, d_lse, grain=1, function=attend) -> list:
    """out, lse and gradients of the shards that this process holds."""
    held = plan.communicator.split
    q, k, v = (
        [inputs.hostile(x.detach(), grain=grain).requires_grad_() for x in held(plan.shard(whole))]
        for whole in tensors
    )
    join = plan.communicator.join
    outs, lses = function(plan, case, *map(join, (q, k, v)))
    outs, lses = held(outs), held(lses)
    incoming = (*held(plan.shard(d_out)), *held(plan.shard(d_lse, dim=2)))
    gradients = torch.autograd.grad((*outs, *lses), (*q, *k, *v), incoming)
    count = len(outs)
    return [outs, lses, *(gradients[i : i + count] for i in range(0, 3 * count, count))]


def equals_the_virtual_ring(group, size) -> None:
    for case, dtype in itertools.product(cases(size), (torch.float64, torch.bfloat16)):
        compare_with_a_virtual_one(case, dtype, group, ring.VirtualRing(size))


def compare_with_a_virtual_one(
    case, dtype, group, virtual_group, device="cpu", grain=1
) -> None:
    """Bit by bit, and in what is sent."""
    tensors = [x.detach().to(device) for x in inputs.qkv(case, dtype)]
    gradients = [x.to(device) for x in comparison.output_gradients(tensors, case.name)]
    plan, virtual = case.plan(group), case.plan(virtual_group)
    ours = on_shards(plan, case, tensors, *gradients, grain)
    theirs = on_shards(virtual, case, tensors, *gradients, grain)
    [rank] = plan.communicator.ranks
    for name, (mine,), everyones in zip(NAMES, ours, theirs, strict=True):
        assert torch.equal(mine, everyones[rank]), f"{case}: {name}"
    counted = plan.communicator.traffic
    counts = [torch.tensor([counted.hops, counted.messages, counted.bytes], device=device)]
    expected = virtual.communicator.traffic
    total = plan.communicator.all_reduce(counts)[0].tolist()
    assert total == [expected.hops, expected.messages, expected.bytes], f"{case}: {total}"


def equals_the_whole(group, size) -> None:
    for case in cases(size):
        if case.cu_seqlens:
            continue
        tensors = inputs.qkv(case, torch.float64)
        gradients = comparison.output_gradients(tensors, case.name)
        whole = comparison.results(
            lambda *qkv, **rest: reference.attention(*qkv, case.mask, **rest),
            *([comparison.plain(x) for x in tensors], {}, *gradients),
        )
        plan = case.plan(group)
        ours = on_shards(plan, case, tensors, *gradients)
        exact = [whole.out, whole.lse, *whole.gradients]
        for name, [mine], truth in zip(NAMES, ours, exact, strict=True):
            rows = plan.shard(truth, dim=2 if name == "lse" else 1)
            closeness.assert_close(mine, [], rows, f"{case}: {name}")


def sums_of_shared_parameters(group, size) -> None:
    """The gradients of what all ranks hold are parts; their sum is the whole."""
    case = RingCase("striped", Causal(), 59)
    shared = [inputs.random((4,), torch.float64, i).abs().requires_grad_() for i in range(3)]
    q, k, v = inputs.qkv(case, torch.float64)

    def keywords(parameters):
        r1, r2, sinks = parameters
        return dict(bias=longattn.Kerple(r1, r2), sink_logits=sinks)

    plan = case.plan(group)
    out = plan.attention(*map(plan.shard, (q, k, v)), case.mask, **keywords(shared))
    parts = torch.autograd.grad(out.square().sum(), shared)
    copies = [x.detach().clone().requires_grad_() for x in shared]
    whole = reference.attention(q, k, v, case.mask, **keywords(copies))
    exact = torch.autograd.grad(whole.square().sum(), copies)
    for part, truth in zip(parts, exact):
        [total] = plan.communicator.all_reduce([part])
        closeness.assert_close(total, [], truth, "a shared parameter")


def plans(group, size) -> None:
    """shard and unshard are each other's inverse, and each other's gradient."""
    for layout in LAYOUTS:
        plan = ring.plan(29, group, layout)
        whole = torch.randn(2, 29, 3, generator=inputs.generator(layout), requires_grad=True)
        shard = plan.shard(whole)
        assert shard.shape[1] == plan.lengths[plan.communicator.ranks[0]]
        again = plan.unshard(shard)
        assert torch.equal(again, whole)
        [gradient] = torch.autograd.grad(again.square().sum() / size, whole)
        [gradient] = plan.communicator.all_reduce([gradient])
        torch.testing.assert_close(gradient, 2 * whole.detach())
        assert torch.equal(plan.shard(torch.arange(29), dim=0), plan.positions())


def dilated(group, size) -> None:
    """LongNet's algorithm, bit by bit what the virtual ring computes."""
    plan, virtual = (ring.plan(61, g, "contiguous") for g in (group, ring.VirtualRing(size)))
    case = RingCase("contiguous", None, 61)
    whole = inputs.qkv(case, torch.float64)

    def results(plan):
        held, join = plan.communicator.split, plan.communicator.join
        q, k, v = ([x.detach().requires_grad_() for x in held(plan.shard(t))] for t in whole)
        out = longattn.dilated_attention(
            *map(join, (q, k, v)), [8, 16, 40], [1, 3, 4], plan=plan, causal=False
        )
        loss = sum(x.square().sum() for x in held(out))
        return [held(out), *(torch.autograd.grad(loss, x, retain_graph=True) for x in (q, k, v))]

    for [mine], everyones in zip(results(plan), results(virtual), strict=True):
        assert torch.equal(mine, everyones[plan.communicator.rank])


TESTS = (equals_the_virtual_ring, equals_the_whole, sums_of_shared_parameters, plans, dilated)
