# SPDX-License-Identifier: BSD-3-Clause
"""Are two processes that exchange messages in the same call?

gloo takes a message that is shorter than its buffer for whole, and dies of a longer one. So in each
call and direction a greeting goes first, and buffers for the rest wait for it. (On CUDA there are
none: the host would have to wait for the device.)"""

from __future__ import annotations

import hashlib

import torch

from longattn.ring.communicator import Message


class Greetings:
    """Those of one call, by one rank."""

    def __init__(self, call: str):
        self._call = call
        digest = hashlib.blake2b(call.encode(), digest_size=8).digest()
        self._word = int.from_bytes(digest, "little", signed=True)
        self._told, self._heard = set(), set()

    def due(self, sends, receives) -> tuple:
        """-> (Messages to send first, Messages to receive first): one for each new peer."""
        return self._first(self._told, sends), self._first(self._heard, receives)

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
