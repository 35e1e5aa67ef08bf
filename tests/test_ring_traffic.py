# SPDX-License-Identifier: BSD-3-Clause
"""What a ring sends: counted where it is sent, against formulas and the masks themselves."""

import pytest
import torch

from longattn import reference, ring
from longattn.masks import Causal, Full, Groups, Window
from longattn.ring.pieces import Geometry
from longattn.ring.route import route
from rings import LAYOUTS, MASKS, RingCase

RANKS, ROWS = 4, 16  # rows a rank
HEADS, HEAD_DIM, VALUE_DIM = 2, 8, 4
NUMBERS = HEADS * (HEAD_DIM + VALUE_DIM)  # of keys and values in a row


def traffic(layout, mask, dtype=torch.float32, seq_len=RANKS * ROWS, world_size=RANKS):
    """(hops, messages, bytes) of a forward pass, and of a backward pass."""
    plan = ring.plan(seq_len, ring.VirtualRing(world_size), layout)
    dims = (HEAD_DIM, HEAD_DIM, VALUE_DIM)
    whole = (torch.randn(1, seq_len, HEADS, dim, dtype=dtype) for dim in dims)
    shards = [[x.requires_grad_() for x in plan.shard(tensor)] for tensor in whole]
    counter = plan.communicator.traffic

    def take():
        counts = counter.hops, counter.messages, counter.bytes
        counter.reset()
        return counts

    outs = plan.attention(*shards, mask)
    forward = take()
    sum(out.sum() for out in outs).backward()
    return forward, take()


# Rows that are sent in all: each one once for every hop.
FORMULAS = [
    (Full(), RANKS * (RANKS - 1) * ROWS, (RANKS - 1) * RANKS),
    # Rank r's keys go to the later ranks alone.
    (Causal(), ROWS * RANKS * (RANKS - 1) // 2, RANKS * (RANKS - 1) // 2),
    # The last size - 1 keys go to the neighbour.
    (Window(6), 5 * (RANKS - 1), RANKS - 1),
    (Window(ROWS + 1), ROWS * (RANKS - 1), RANKS - 1),
    (Window(ROWS + 3), ROWS * (RANKS - 1) + 2 * (RANKS - 2), 2 * RANKS - 3),
    (Window(1), 0, 0),
    # Sinks go from the first rank to the last, once.
    (Window(6, sink_tokens=3), (5 + 3) * (RANKS - 1), 2 * RANKS - 3),
    (Groups(ROWS), 0, 0),
    (Groups(2 * ROWS), 2 * ROWS, 2),
]


@pytest.mark.parametrize("mask, rows, hops", FORMULAS, ids=[str(f[0]) for f in FORMULAS])
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16), ids=str)
def test_contiguous(mask, rows, hops, dtype):
    forward, backward = traffic("contiguous", mask, dtype)
    keys_and_values = rows * NUMBERS * dtype.itemsize
    assert forward[2] == keys_and_values and forward[0] == hops
    wide = 8 if dtype == torch.float64 else 4
    # Gradients of each row: as often as the row itself, the last time home.
    assert backward[2] == keys_and_values + rows * NUMBERS * wide


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_attention_goes_around_once(layout):
    forward, _ = traffic(layout, Full())
    assert forward == (RANKS * (RANKS - 1), 2 * RANKS * (RANKS - 1), 12 * ROWS * NUMBERS * 4)
    assert traffic(layout, Full(), world_size=1) == ((0, 0, 0), (0, 0, 0))


def rows_that_somebody_sees(plan, mask) -> int:
    """At each hop, the keys that a rank there or further on sees, from the mask itself."""
    owned = plan.positions()
    ranks = len(owned)
    total = 0
    for source, keys in enumerate(owned):
        seen = [
            torch.stack(
                [
                    reference.visible(mask, owned[(source + hop) % ranks], keys, head).any(0)
                    for head in range(4)
                ]
            ).any(0)
            for hop in range(ranks)
        ]
        total += sum(int(torch.stack(seen[hop:]).any(0).sum()) for hop in range(1, ranks))
    return total


@pytest.mark.parametrize("world_size", (2, 3, 4, 6))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_nothing_is_sent_that_nobody_sees(mask, layout, world_size):
    case = RingCase(layout, mask, 97)
    plan = case.plan(ring.VirtualRing(world_size))
    dims = (case.head_dim, case.value_dim)
    q = plan.shard(torch.randn(case.q_shape))
    k, v = (plan.shard(torch.randn(1, 97, case.kv_heads, dim)) for dim in dims)
    plan.attention(q, k, v, mask)
    sent = plan.communicator.traffic.bytes // (4 * case.kv_heads * sum(dims))
    seen = rows_that_somebody_sees(plan, mask)
    if layout == "striped":  # where rows are several positions, a range may have a hole
        assert seen <= sent <= 1.2 * seen
    else:
        assert sent == seen


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_nobody_meets_keys_that_he_does_not_see(mask, layout):
    """Every pair of pieces that is computed has a visible pair of positions."""
    world_size, seq_len = 4, 97
    rules = tuple(mask.rule(head) for head in range(4))
    plan = ring.plan(seq_len, ring.VirtualRing(world_size), layout)
    owned = plan.positions()
    for rank in range(world_size):
        hops = route(Geometry(seq_len, world_size, layout), rules, rank)
        assert hops[0].source == rank and hops[0].meetings
        for hop in hops:
            keys = owned[hop.source]
            for meeting in hop.meetings:
                queries = owned[rank][slice(*meeting.q_rows)]
                if hop.rows < len(keys):
                    continue  # rows were left behind: test_nothing_is_sent_that_nobody_sees
                met = keys[slice(*meeting.k_rows)]
                assert any(reference.visible(mask, queries, met, h).any() for h in range(4))
