# SPDX-License-Identifier: BSD-3-Clause
"""Dense causal attention with several threads beside one."""

from __future__ import annotations

import dataclasses

import torch

from bench.cases.dense import Dense
from bench.contenders.base import ours

ONE = "longattn, 1 thread"


@dataclasses.dataclass(frozen=True)
class Threads(Dense):
    """The clock is the wall's: more than one thread is faster in no other time."""

    threads: int = 2

    pattern = "threads"
    wall_clock = True

    @property
    def title(self):
        return f"dense causal, {self.threads} threads"

    def ours(self):
        return self._with(self.threads)

    def rivals(self):
        return (ours(ONE, self._with(1), baseline=True),)

    def _with(self, threads: int):
        function = super().ours()

        def call(*inputs):
            torch.set_num_threads(threads)  # the backward pass follows, before anybody else's
            return function(*inputs)

        return call
