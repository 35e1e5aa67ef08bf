# SPDX-License-Identifier: BSD-3-Clause
"""Sliding windows, without and with sinks."""

from __future__ import annotations

import dataclasses

import longattn
from bench.cases.base import ReferenceCase
from bench.contenders import chunked, flex, packages, sdpa
from bench.visible_pairs import lambda_pairs
from longattn import reference


@dataclasses.dataclass(frozen=True)
class Window(ReferenceCase):
    """The last `window` keys, the query's own included."""

    length: int = 8192
    head_dim: int = 128
    window: int = 1024

    pattern = "window"

    @property
    def title(self):
        return f"window {self.window}"

    @property
    def sinks(self) -> int:
        return 0

    def ours(self):
        mask = longattn.Window(self.window, sink_tokens=self.sinks)
        return lambda q, k, v: longattn.attention(q, k, v, mask)

    def reference(self):
        mask = longattn.Window(self.window, sink_tokens=self.sinks)
        return lambda q, k, v, **start: reference.attention(q, k, v, mask, **start)

    def rivals(self):
        def visible(query, key):
            near = query - key < self.window
            return (query >= key) & ((near | (key < self.sinks)) if self.sinks else near)

        return (
            chunked.chunked(self, self.window, self.sinks),
            flex.flex(self, visible),
            sdpa.masked(self, visible),
            *packages.windowed(self, self.window, self.sinks),
            sdpa.causal(self),
        )

    def visible_pairs(self):
        pairs = lambda_pairs(self.length, self.window, self.sinks)
        return pairs * self.q_heads * self.batch


@dataclasses.dataclass(frozen=True)
class Sinks(Window):
    """The last `window` keys and the first `sink_tokens`: the lambda mask."""

    sink_tokens: int = 64

    pattern = "sinks"

    @property
    def title(self):
        return f"{self.sink_tokens} sinks + window {self.window}"

    @property
    def sinks(self):
        return self.sink_tokens
