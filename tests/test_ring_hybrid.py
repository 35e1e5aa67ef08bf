# SPDX-License-Identifier: BSD-3-Clause
"""Ring and heads on a mesh equal attention over the whole sequence, forward and backward."""

import itertools
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

import comparison
import inputs
import longattn
import processes
import ring_workers
from longattn import reference
from longattn.masks import Causal, Full, Groups, Window
from longattn.ring import VirtualMesh, plan
from rings import LAYOUTS, MASKS, UNEVEN_GROUPS, RingCase, on_ranks

SHAPES = ((2, 2), (3, 2), (1, 4), (2, 4), (3, 1))  # ring, heads


def check(case, shape, dtype=torch.float64, grain=1, **keywords):
    def twin(q, k, v, **rest):
        return reference.attention(q, k, v, case.mask, **rest)

    tensors = inputs.qkv(case, dtype, grain=grain)
    function = on_ranks(case, VirtualMesh(*shape), grain, **keywords)
    comparison.compare(function, twin, tensors, {}, case.name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS + UNEVEN_GROUPS[-2:], ids=str)
def test_equals_the_whole(mask, layout):
    """Masks of several rules too: each ring has those of its heads."""
    check(RingCase(layout, mask, 97), (3, 2))
    check(RingCase(layout, mask, 61, kv_heads=4), (2, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seq_len", (0, 1, 3, 7, 83))
def test_uneven_lengths(seq_len, shape, layout):
    """Ranks without rows, and ring ranks without."""
    check(RingCase(layout, Causal(), seq_len, kv_heads=4, batch=2), shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("q_heads, kv_heads", ((2, 2), (8, 2), (6, 6), (12, 4)))
def test_head_counts(layout, q_heads, kv_heads):
    check(RingCase(layout, Window(20), 59, q_heads=q_heads, kv_heads=kv_heads, batch=2), (2, 2))
    check(RingCase(layout, Full(), 59, q_heads=q_heads, kv_heads=kv_heads, batch=0), (2, 2))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dtypes(layout, dtype):
    case = RingCase(layout, Window(60, sink_tokens=5), 150, head_dim=32, value_dim=32)
    check(case, (2, 2), dtype)


def biases():
    def random(*shape):
        return inputs.random(shape, torch.float64, shape, "bias").abs().requires_grad_()

    yield "none", None, ()
    yield "alibi", longattn.Alibi(), ()
    slopes = random(4)
    yield "learned alibi", longattn.Alibi(slopes), (slopes,)
    r1, r2 = random(4), random(4)
    yield "kerple", longattn.Kerple(r1, r2), (r1, r2)
    table = random(4, 41)
    yield "table", longattn.RelativeBias(table, origin=17), (table,)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", (Full(), Window((3, 90, 1, 20), sink_tokens=4)), ids=str)
@pytest.mark.parametrize("bias, learned", [b[1:] for b in biases()], ids=[b[0] for b in biases()])
def test_scores(bias, learned, mask, layout):
    """Each ring has its heads of biases and sink logits; their gradients come back to all heads."""
    case = RingCase(layout, mask, 67)
    q, k, v = inputs.qkv(case, torch.float64)
    sinks = inputs.random((4,), torch.float64, "sinks").requires_grad_()
    learned = (q, k, v, sinks, *learned)
    keywords = dict(bias=bias, softcap=3.0, sink_logits=sinks)
    d_out, d_lse = comparison.output_gradients((q, k, v), case.name)
    actual = on_ranks(case, VirtualMesh(2, 2), **keywords)(q, k, v, return_lse=True)
    exact = reference.attention(q, k, v, mask, return_lse=True, **keywords)
    actual += torch.autograd.grad(actual, learned, (d_out, d_lse))
    exact += torch.autograd.grad(exact, learned, (d_out, d_lse))
    for ours, theirs in zip(actual, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", (Causal(), Groups(12)), ids=str)
def test_packed_documents_lie_across_ranks(mask, layout):
    case = RingCase(layout, mask, 83, cu_seqlens=(0, 3, 3, 41, 42, 83))
    borders = torch.tensor(case.cu_seqlens)

    def twin(q, k, v, **rest):
        packed = (x[0] for x in (q, k, v))
        out, lse = reference.attention(
            *packed, mask, cu_seqlens_q=borders, cu_seqlens_k=borders, **rest
        )
        return out[None], lse[None]

    tensors = inputs.qkv(case, torch.float64)
    comparison.compare(on_ranks(case, VirtualMesh(2, 2)), twin, tensors, {}, case.name)


def test_rows_of_the_ring_in_portions():
    """Rank (ring rank, place) counts ring rank first: 2 rings' ranks of 3 portions."""
    owned = plan(14, VirtualMesh(2, 3), "zigzag").positions()
    expected = [[0, 1], [2, 10], [11, 12, 13], [3, 4], [5, 6], [7, 8, 9]]
    assert [rows.tolist() for rows in owned] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shards(shape, layout):
    tokens = torch.arange(100, 129)[None]
    split = plan(29, VirtualMesh(*shape), layout)
    assert torch.equal(split.unshard(split.shard(tokens)), tokens)
    assert torch.equal(split.unshard(split.positions(), 0), torch.arange(29))
    labels = split.unshard(split.shard_labels(tokens))
    assert labels.tolist() == [[*range(101, 129), -100]]
    x = torch.randn(29, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: split.unshard(split.shard(x, 0), 0), x)


def test_traffic():
    """Rows for heads and back, and a ring of half the heads."""
    split = plan(64, VirtualMesh(2, 2), "contiguous")
    q, k, v = (
        [x.requires_grad_() for x in split.shard(torch.randn(1, 64, heads, dim))]
        for heads, dim in ((4, 8), (2, 8), (2, 4))
    )
    traffic = split.communicator.traffic
    outs = split.attention(q, k, v, Causal())
    # A rank's 16 rows, of which half the heads are the other one's.
    traded = 4 * 16 * (2 * 8 + 1 * 8 + 1 * 4)
    back = 4 * 16 * (2 * 4 + 2)  # with lse, which some ranks may want
    around = 2 * 32 * (8 + 4)  # keys of the first ring rank to the second one, in both rings
    assert traffic.bytes == 4 * (traded + back + around)
    assert traffic.hops == 4 + 4 + 2
    assert traffic.messages == 4 * 3 + 4 * 2 + 2 * 2
    traffic.reset()
    sum(out.sum() for out in outs).backward()
    assert traffic.bytes == 4 * (traded + back + 2 * around), "gradients go the other way"


def check_decode(mesh, layout):
    split = plan(53, mesh, layout)
    case = RingCase(layout, Window(40, sink_tokens=2), 53)
    _, k, v = (x.detach() for x in inputs.qkv(case, torch.float64))
    q = inputs.random((1, 1, 4, 8), torch.float64, "q")
    out, lse = split.decode(
        *(q, split.shard(k), split.shard(v), case.mask), q_start=52, return_lse=True
    )
    exact = reference.attention(q, k, v, case.mask, q_start=52, return_lse=True)
    torch.testing.assert_close((out, lse), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_decode(layout):
    """Every rank attends to its own keys, all heads of them."""
    check_decode(VirtualMesh(2, 2), layout)


def shards(split, heads=4):
    return [torch.randn(1, rows, heads, 8) for rows in split.lengths]


def test_wrong_calls():
    split = plan(18, VirtualMesh(2, 2), "contiguous")
    q, k, v = (shards(split) for _ in range(3))
    one = shards(split, heads=1)
    odd = shards(split, heads=3)
    with pytest.raises(ValueError, match="must be multiples of 2, got 4 and 1; let the heads"):
        split.attention(q, one, one, Causal())
    with pytest.raises(ValueError, match="must be multiples of 2, got 3 and 3"):
        split.attention(odd, odd, odd, Causal())
    with pytest.raises(ValueError, match="a VirtualMesh takes lists of 4 shards, .* got 2 of them"):
        split.attention(q[:2], k, v, Causal())
    with pytest.raises(ValueError, match="q must have the 4 rows of rank 0 .* over 4 ranks"):
        split.attention([q[1], *q[1:]], k, v, Causal())
    few = [*k[:2], k[2][:, :, :2], k[3]]
    with pytest.raises(ValueError, match=r"k is .*, any, 4, 8\] .* but .*, any, 2, 8\] .* rank 2"):
        plan(18, VirtualMesh(2, 2), "contiguous").attention(q, few, few, Causal())
    with pytest.raises(ValueError, match="sink_logits must hold finite numbers"):
        split.attention(q, k, v, Causal(), sink_logits=torch.full((4,), float("inf")))
    with pytest.raises(NotImplementedError, match="not one of ring and heads"):
        longattn.dilated_attention(q, k, v, [8], [1], plan=split)
    with pytest.raises(NotImplementedError, match="along one of its dimensions"):
        split.communicator.exchange(0, [], [])
    with pytest.raises(ValueError, match="heads must be an integer of at least 1, got 0"):
        VirtualMesh(2, 0)


def test_no_second_derivatives():
    split = plan(8, VirtualMesh(2, 2))
    q, k, v = ([x.requires_grad_() for x in shards(split)] for _ in range(3))
    out = split.attention(q, k, v, Causal())[0]
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        torch.autograd.grad(out.sum(), q[0], create_graph=True)


def on_a_device_mesh(rank):
    """Runs on each of 4 ranks, with either order of the dimensions."""
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    unnamed = init_device_mesh("cpu", (2, 2))
    swapped = init_device_mesh("cpu", (2, 2), mesh_dim_names=("heads", "ring"))
    with_data = init_device_mesh("cpu", (1, 2, 2), mesh_dim_names=("data", "ring", "heads"))
    assert plan(9, unnamed).communicator.ranks == (rank,)
    assert plan(9, with_data["ring", "heads"]).communicator.ranks == (rank,)
    assert plan(9, swapped).communicator.ranks == ({0: 0, 1: 2, 2: 1, 3: 3}[rank],)
    with pytest.raises(ValueError, match="one dimension, the ring, or two, ring and heads, got 3"):
        plan(9, with_data)
    elsewhere = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "sequence"))
    with pytest.raises(ValueError, match=r"got \('data', 'sequence'\): .* mesh\[.sequence.\]"):
        plan(9, elsewhere)
    assert plan(9, elsewhere["sequence"]).world_size == 2
    with pytest.raises(ValueError, match=r"must rise along both .* got \[\[0, 3\], \[2, 1\]\]"):
        plan(9, DeviceMesh("cpu", [[0, 3], [2, 1]]))
    for mesh in (unnamed, swapped):
        ring_workers.plans(mesh, 4)
        ring_workers.equals_the_whole(mesh, 4)
        ring_workers.sums_of_shared_parameters(mesh, 4)
        check_decode(mesh, "striped")
        for layout, dtype in itertools.product(LAYOUTS, (torch.float64, torch.bfloat16)):
            case = RingCase(layout, Window((3, 90, 1, 20), sink_tokens=(0, 2, 50, 1)), 57)
            ring_workers.compare_with_a_virtual_one(case, dtype, mesh, VirtualMesh(2, 2))
    mask = Causal() if rank == 3 else Full()
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    with pytest.raises(ValueError, match=r"Full\(\) on ranks 0, 1 and 2 but Causal\(\) on rank 3"):
        plan(8, unnamed).attention(q, k, v, mask)
    return "done"


def ranks_with_wants_of_their_own(rank):
    """One wants lse, one has other gradients than its peer; then one goes backward alone."""
    from torch.distributed.device_mesh import init_device_mesh

    split = plan(12, init_device_mesh("cpu", (1, 2)), check=False)
    torch.manual_seed(rank)
    q, k, v = torch.randn(3, 1, 6, 2, 8, dtype=torch.float64)
    sinks = torch.ones(2, dtype=torch.float64)
    own = (sinks if rank else q).requires_grad_()
    found = split.attention(q, k, v, Full(), sink_logits=sinks, return_lse=rank == 0)
    (found[0].sum() + found[1].sum() if rank == 0 else found.sum()).backward()
    assert own.grad.isfinite().all() and own.grad.abs().sum() > 0
    assert (k.grad, v.grad) == (None, None)
    out = split.attention(q, k, v, Full(), sink_logits=sinks)
    with pytest.raises((ValueError, RuntimeError), match="belongs to another call|no answer from"):
        out.sum().backward() if rank else split.attention(q, k, v, Full(), sink_logits=sinks)
    return "done"


def before_a_rank_dies(rank):
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("heads", "ring"))
    split = plan(16, mesh)
    q, k, v = torch.randn(3, 1, 4, 2, 8)
    split.attention(q, k, v, Full())
    dist.barrier()
    if rank == 1:
        time.sleep(0.5)  # the last words of the barrier arrive
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        split.attention(q, k, v, Full())
    except RuntimeError as error:
        return str(error)
    return None


needs_processes = pytest.mark.skipif(
    not dist.is_available(), reason="this build of torch has no torch.distributed"
)


@needs_processes
def test_a_rank_that_dies_is_named_as_on_the_mesh(tmp_path):
    """Process 1 is the first one of the second ring rank."""
    messages = processes.run(4, before_a_rank_dies, tmp_path, timeout=20.0, killed=[1])
    in_its_ring, _, beside, with_its_heads = messages
    assert in_its_ring.startswith("rank 0 could not exchange messages with rank 2: no answ")
    assert "no answer from rank 2, which stopped" in in_its_ring
    assert with_its_heads.startswith("rank 3 could not exchange messages with rank 2: no an")
    assert beside.startswith("rank 1 could not exchange messages with rank 3:")


@needs_processes
def test_processes(tmp_path):
    assert processes.run(4, on_a_device_mesh, tmp_path) == ["done"] * 4


@needs_processes
def test_ranks_with_wants_of_their_own(tmp_path):
    assert processes.run(2, ranks_with_wants_of_their_own, tmp_path, timeout=20.0) == ["done"] * 2
