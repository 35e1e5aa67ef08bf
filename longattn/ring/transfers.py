# SPDX-License-Identifier: BSD-3-Clause
"""What travels: blocks of keys and values to the next rank, their gradients along and then home."""

from __future__ import annotations

from typing import Callable, NamedTuple

import torch

from longattn.ring import ranges
from longattn.ring.communicator import Message
from longattn.ring.rank import Rank
from longattn.ring.route import Hop


def pass_on(me: Rank, block: list, hop: Hop, after) -> tuple:
    """Starts to send the rows of a block that go on, and to receive the next hop's block.
    -> (the next block, a function that waits for it)."""
    ranks = me.communicator.world_size
    arriving = [] if after is None else _empty(block, after.rows)
    sends = _messages(_rows(block, hop.onward), (me.rank + 1) % ranks)
    receives = _messages(arriving, (me.rank - 1) % ranks)
    return arriving, me.communicator.exchange(me.rank, sends, receives)


class GradientsOnTheWay(NamedTuple):
    wait: Callable
    following: list  # of the next hop's block: what the ranks before have added up
    returning: tuple  # ranges of rows of this rank's keys
    returned: list  # their gradients, whole but for this rank's own part

    def arrive(self, at_home: list, of_block: list) -> None:
        """Waits, and adds to the gradients of this rank's keys and to those of the block."""
        self.wait()
        for mine, theirs in zip(of_block, self.following):
            mine += theirs
        for mine, theirs in zip(at_home, self.returned):
            begin = 0
            for first, end in self.returning:
                mine[:, first:end] += theirs[:, begin : begin + end - first]
                begin += end - first


def pass_gradients(me: Rank, gradients: list, number: int, hop: Hop, after) -> GradientsOnTheWay:
    """Starts to send the gradients of a block: with its rows that go on, or else home."""
    ranks = me.communicator.world_size
    following = [] if after is None else _empty(gradients, after.rows)
    returned = _empty(gradients, ranges.size(hop.returning))
    sends = _messages(_rows(gradients, hop.onward), (me.rank + 1) % ranks)
    sends += _messages(_rows(gradients, hop.home), hop.source)
    receives = _messages(following, (me.rank - 1) % ranks)
    receives += _messages(returned, (me.rank + number) % ranks)
    wait = me.communicator.exchange(me.rank, sends, receives)
    return GradientsOnTheWay(wait, following, hop.returning, returned)


def _messages(tensors: list, peer: int) -> list:
    return [Message(tensor, peer) for tensor in tensors if tensor.numel()]


def _empty(block: list, rows: int) -> list:
    return [x.new_empty((x.shape[0], rows, *x.shape[2:])) for x in block]


def _rows(block: list, chosen: tuple) -> list:
    """Contiguous; the block itself where all of it is chosen."""
    return [
        torch.cat([x[:, begin:end] for begin, end in chosen], 1).contiguous()
        if ranges.size(chosen) != x.shape[1]
        else x.contiguous()
        for x in block
        if chosen
    ]
