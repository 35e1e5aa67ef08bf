# SPDX-License-Identifier: BSD-3-Clause
"""One rank's part of a call."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch

from longattn import allocation
from longattn.backends import Backend
from longattn.native import Layout, Scores
from longattn.partial_engine import accumulator_dtype, lse_shape
from longattn.ring import row_biases
from longattn.ring.communicator import Communicator


class Gradients(NamedTuple):
    """Accumulator dtype."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    bias: Optional[torch.Tensor]
    sink_logits: Optional[torch.Tensor]


class Incoming(NamedTuple):
    """What a backward pass knows of the queries of a partial."""

    dout: torch.Tensor
    lse: torch.Tensor  # of the whole softmax
    delta: torch.Tensor


class Rank(NamedTuple):
    rank: int
    route: Any  # what it meets: see route.py and dilated_route.py
    communicator: Communicator
    backend: Backend
    q: torch.Tensor  # [batch, rows, q_heads, head_dim]
    k: torch.Tensor
    v: torch.Tensor
    scores: Scores
    sink_logits: Optional[torch.Tensor]  # accumulator dtype

    def empty_result(self) -> tuple:
        """(out, lse) to merge partials into; accumulator dtype."""
        dtype = accumulator_dtype(self.q.dtype)
        out = allocation.zeros(self.q, (*self.q.shape[:-1], self.v.shape[-1]), dtype)
        lse = self.q.new_full(lse_shape(self.q), float("-inf"), dtype=dtype)
        if self.sink_logits is not None:  # a partial with one key of value 0
            lse.copy_(self.sink_logits[:, None].expand_as(lse))
        return out, lse

    def run_forward(self, q, k, v, layout: Layout, rules, scores: Scores, out, lse) -> None:
        """Merges a partial into rows of out and lse."""
        if layout.batch:
            self.backend.engine.forward(q, k, v, layout, rules, scores, out, lse, merge=True)

    def run_backward(
        self, q, k, v, layout, rules, scores: Scores, incoming: Incoming, into, wants_bias: bool
    ):
        """Adds to the gradients `into`, of q, k and v. -> sums by distance in rows, or None."""
        engine = self.backend.engine
        problem = (q, k, v, layout, rules, scores)
        if not layout.batch:
            return row_biases.empty_sums(scores.bias, layout, 1) if wants_bias else None
        workspace_size, shares = engine.backward_sizes(*problem)
        sums = row_biases.empty_sums(scores.bias, layout, shares) if wants_bias else None
        workspace = allocation.empty(into[0], workspace_size)
        engine.backward(*problem, *incoming, *into, workspace, sums)
        return sums


def zeros_like(tensors) -> list:
    """Contiguous, in the accumulator's dtype."""
    return [allocation.zeros(x, x.shape, accumulator_dtype(x.dtype)) for x in tensors]
