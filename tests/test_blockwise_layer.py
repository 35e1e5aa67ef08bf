# SPDX-License-Identifier: BSD-3-Clause
"""BlockwiseLayer: its values and gradients do not depend on chunks or ranks, its memory is that of
one chunk and of the rank's own rows."""

import pytest
import torch
from torch import nn

import longattn
import processes
from allocations import peak_bytes, saved_bytes
from longattn import BlockwiseLayer
from longattn.ring import VirtualRing

WIDTH, HIDDEN, HEADS = 16, 1024, 2
MASK = longattn.Window(64)


def layer(chunk_size, dtype=torch.float32, kv_heads=HEADS, hidden=HIDDEN):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = WIDTH + 2 * kv_heads * WIDTH // HEADS
        return BlockwiseLayer(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, rows, bias=False)),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, hidden), nn.GELU(), nn.Linear(hidden, WIDTH)
            ),
            q_heads=HEADS,
            kv_heads=kv_heads,
            chunk_size=chunk_size,
        ).to(dtype)


def one_rank(length, dtype=torch.float32):
    """(x, attend) of a ring of one rank"""
    plan = longattn.ring.plan(length, VirtualRing(1))

    def attend(q, k, v):
        [out] = plan.attention([q], [k], [v], MASK)
        return out

    return torch.randn(1, length, WIDTH, dtype=dtype, requires_grad=True), attend


def results(block, x, attend) -> list:
    out = block(x, attend)
    return [out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]


def by_hand(block, x):
    """The same layer, written out for two query heads."""
    q, k, v = block.to_qkv(x).split(
        [WIDTH, *[block.kv_heads * WIDTH // HEADS] * 2], dim=-1
    )
    q, k, v = (y.view(*y.shape[:2], -1, WIDTH // HEADS) for y in (q, k, v))
    x = x + block.to_out(longattn.reference.attention(q, k, v, MASK).reshape(x.shape))
    return x + block.feedforward(x)


@pytest.mark.parametrize("kv_heads", (2, 1))
@pytest.mark.parametrize("chunk_size", (None, 7, 100))
def test_values_and_gradients(chunk_size, kv_heads):
    x, attend = one_rank(50, torch.float64)
    block = layer(chunk_size, torch.float64, kv_heads)
    out = by_hand(block, x)
    expected = [out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]
    for ours, wanted in zip(results(block, x, attend), expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_compiles_around_the_ring():
    x, attend = one_rank(50, torch.float64)
    block = layer(16, torch.float64)
    compiled = results(torch.compile(block, backend="aot_eager"), x, attend)
    for ours, plain in zip(compiled, results(block, x, attend), strict=True):
        torch.testing.assert_close(ours, plain)


def test_heads_that_do_not_divide_the_projection():
    narrow = nn.Linear(WIDTH, 44)
    odd = BlockwiseLayer(narrow, nn.Identity(), nn.Identity(), q_heads=2, kv_heads=3)
    with pytest.raises(ValueError, match="a multiple of 8 numbers .* 2 heads of q and 3 .* got 44"):
        odd(torch.zeros(1, 4, WIDTH), None)


def test_six_tensors_as_long_as_the_sequence_are_kept():
    """x, q, k, v, the attention's out and the sum of x and that; lse and a weight on top."""
    x, attend = one_rank(1024)
    block = layer(64)
    small = 1024 * HEADS * 4 + block.to_out.weight.nbytes
    assert saved_bytes(lambda: block(x, attend)) <= 6 * x.nbytes + small
    assert saved_bytes(lambda: layer(None)(x, attend)) > 100 * x.nbytes


def peak_of_a_step(block, x, attend) -> float:
    """In tensors as long as x."""

    def step():
        out = block(x, attend)
        out.backward(torch.ones_like(out))

    return peak_bytes(step) / x.nbytes


def test_peak_memory_is_that_of_a_chunk():
    def peak(length, chunk_size):
        return peak_of_a_step(layer(chunk_size), *one_rank(length))

    # In tensors as long as the sequence: what is kept, what ring attention's backward pass adds up,
    # results in chunks and joined.
    assert peak(4096, 64) < 20
    assert peak(4096, 64) < 1.05 * peak(2048, 64)
    assert peak(1024, 256) > 2 * peak(1024, 64)  # here a chunk's inside is what is seen
    assert peak(4096, None) > 10 * peak(4096, 64)


def peaks_over_a_ring(rank) -> list:
    """Peaks, in tensors as long as this rank's rows, of the layer with all keys visible."""
    peaks = []
    for rows in (1024, 2048):
        plan = longattn.ring.plan(rows * torch.distributed.get_world_size(), layout="contiguous")
        x = torch.randn(1, plan.lengths[rank], WIDTH, requires_grad=True)
        peaks.append(
            peak_of_a_step(
                layer(64, hidden=64), x, lambda q, k, v: plan.attention(q, k, v, longattn.Full())
            )
        )
    return peaks


def test_peak_memory_over_processes_is_that_of_a_ranks_rows(tmp_path):
    """Whatever the number of ranks: a block is let go when it was passed on."""
    found = []
    for world_size in (4, 6):  # from 4 on keys and gradients of three blocks meet at a rank
        folder = tmp_path / str(world_size)
        folder.mkdir()
        peaks = processes.run(world_size, peaks_over_a_ring, folder)
        assert all(long < 1.05 * short for short, long in peaks)
        found.append(max(long for _, long in peaks))
    assert found[1] < 1.05 * found[0] and found[1] < 32
