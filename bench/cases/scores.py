# SPDX-License-Identifier: BSD-3-Clause
"""What scores may have beside a product: biases, a cap, a sink logit. Dense causal attention."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

import longattn
from bench.cases.base import ReferenceCase
from bench.contenders import flex, packages, sdpa, sinks
from bench.contenders.base import ours
from bench.visible_pairs import causal_pairs
from longattn import reference
from longattn.biases import default_slopes

PLAIN = "longattn, plain scores"


@dataclasses.dataclass(frozen=True)
class Scored(ReferenceCase):
    """Causal attention with something on its scores; a yardstick is the same without."""

    def tolerance(self):
        """Learned tensors, and their gradients, are in single precision."""
        learned = len(self.input_names) > 3
        return max(1e-6, super().tolerance()) if learned else super().tolerance()

    def _keywords(self, *extra) -> dict:
        """Of `attention`, from the inputs behind q, k and v."""
        raise NotImplementedError(f"{type(self).__name__} has no keywords")

    def ours(self):
        mask = longattn.Causal()
        return lambda q, k, v, *extra: longattn.attention(q, k, v, mask, **self._keywords(*extra))

    def reference(self):
        mask = longattn.Causal()
        return lambda q, k, v, *extra, **start: reference.attention(
            q, k, v, mask, **self._keywords(*extra), **start
        )

    def rivals(self):
        mask = longattn.Causal()
        plain = ours(PLAIN, lambda q, k, v, *_: longattn.attention(q, k, v, mask), baseline=True)
        return (plain, *self._rivals())

    def _rivals(self) -> tuple:
        return ()

    def visible_pairs(self):
        return causal_pairs(self.length) * self.q_heads * self.batch


@dataclasses.dataclass(frozen=True)
class Biases(Scored):
    """A bias by head and distance. alibi: fixed slopes. table: learned, one number for each head
    and distance, as kerple (log) and T5's; its gradient is part of the backward pass."""

    kind: str = "alibi"

    pattern = "biases"
    KINDS: ClassVar[tuple] = ("alibi", "table", "kerple", "sandwich")

    def __post_init__(self):
        _check_kind(self)

    @property
    def title(self):
        return {
            "alibi": "dense causal, ALiBi",
            "table": "dense causal, learned table",
            "kerple": "dense causal, KERPLE log",
            "sandwich": "dense causal, Sandwich",
        }[self.kind]

    @property
    def input_names(self):
        more = {"table": ("table",), "kerple": ("r1", "r2")}.get(self.kind, ())
        return ("q", "k", "v", *more)

    def inputs(self, seed=0):
        generator = torch.Generator().manual_seed(seed + 2)
        heads = self.q_heads
        shapes = {"table": [(heads, self.length)], "kerple": [(heads,), (heads,)]}
        extra = [torch.rand(x, generator=generator) + 0.1 for x in shapes.get(self.kind, ())]
        return [*super().inputs(seed), *(x.to(self.device) for x in extra)]

    def tolerance(self):
        # r2 is one number a head: a sum over all pairs of which next to nothing is left. Eager
        # PyTorch in bfloat16 errs by 3e-2 of it as well.
        return (2 if self.kind == "kerple" else 1) * super().tolerance()

    def _keywords(self, *extra):
        bias = {
            "alibi": longattn.Alibi,
            "sandwich": longattn.Sandwich,
            "table": longattn.RelativeBias,
            "kerple": longattn.Kerple,
        }[self.kind](*extra)
        return {"bias": bias}

    def _rivals(self):
        if self.kind != "alibi":
            return ()
        slopes = torch.tensor(default_slopes(self.q_heads), device=self.device)

        def matrix(distance):
            return -slopes[:, None, None] * distance.abs()

        def score(value, head, query, key):
            return value - slopes[head] * (query - key)

        return (
            sdpa.biased(self, matrix),
            flex.flex(self, flex.causal, score),
            *packages.windowed(self, alibi_slopes=slopes),
        )


@dataclasses.dataclass(frozen=True)
class Scores(Scored):
    """softcap: scores become softcap * tanh(score / softcap), as Gemma 2's. sink_logits: a learned
    logit in each head's denominator, as gpt-oss's."""

    kind: str = "softcap"
    softcap: float = 50.0

    pattern = "scores"
    KINDS: ClassVar[tuple] = ("softcap", "sink_logits")
    OF_KIND: ClassVar[dict] = {"softcap": "softcap"}

    def __post_init__(self):
        _check_kind(self)

    @property
    def title(self):
        if self.kind == "softcap":
            return f"dense causal, softcap {self.softcap:g}"
        return "dense causal, sink logits"

    @property
    def input_names(self):
        return ("q", "k", "v") if self.kind == "softcap" else ("q", "k", "v", "sink_logits")

    def inputs(self, seed=0):
        if self.kind == "softcap":
            return super().inputs(seed)
        generator = torch.Generator().manual_seed(seed + 2)
        logits = torch.randn(self.q_heads, generator=generator).to(self.device)
        return [*super().inputs(seed), logits]

    def _keywords(self, *extra):
        return {"sink_logits": extra[0]} if extra else {"softcap": self.softcap}

    def _rivals(self):
        if self.kind == "sink_logits":
            return (sinks.fused(), sinks.eager(self))

        def score(value, head, query, key):
            return self.softcap * torch.tanh(value / self.softcap)

        return (
            flex.flex(self, flex.causal, score),
            *packages.windowed(self, softcap=self.softcap),
        )


def _check_kind(case) -> None:
    if case.kind not in case.KINDS:
        raise ValueError(f"kind must be one of {', '.join(case.KINDS)}, got {case.kind!r}")
