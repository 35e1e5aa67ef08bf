# SPDX-License-Identifier: BSD-3-Clause
"""Are two processes that exchange messages in the same call?

gloo takes a message that is shorter than its buffer for whole, and dies of a longer one. So
messages carry a tag of their call, by which gloo keeps those of other calls apart; and that nobody
waits for what never comes, a greeting under a common tag goes beside the first message to each
rank, and tells which call it belongs to. (NCCL has no tags, and a host that reads a greeting would
wait for it.)"""

from __future__ import annotations

import hashlib

import torch

from longattn.ring.communicator import Message


class Greetings:
    """Those of one call, by one rank."""

    def __init__(self, call: str):
        self._call = call
        self._all_heard = False
        digest = hashlib.blake2b(call.encode(), digest_size=8).digest()
        self._word = int.from_bytes(digest, "little", signed=True)
        self._told, self._heard = set(), set()
        self.tag = self._word % 2**31  # what gloo accepts

    def due(self, sends, receives) -> tuple:
        """-> (Messages to send first, Messages to receive first): one for each new peer."""
        return self._first(self._told, sends), self._first(self._heard, receives)

    def due_to_all(self) -> list:
        """What to hand to all ranks in front of a collective: one word, in the first of a call."""
        due = [] if self._all_heard else [torch.tensor([self._word])]
        self._all_heard = True
        return due

    def check(self, heard: list, names) -> None:
        """names: what ranks are called.

        Raises:
            ValueError: a greeting is of another call.
        """
        for word, peer in heard:
            if word.item() != self._word:
                raise ValueError(
                    f"rank {names[peer]} sends what belongs to another call, or to one with other "
                    f"arguments, than {self._call}: every rank has to make the same calls in the "
                    "same order"
                )

    def _first(self, met: set, messages) -> list:
        new = {message.peer for message in messages} - met
        met |= new
        return [Message(torch.tensor([self._word]), peer) for peer in sorted(new)]
