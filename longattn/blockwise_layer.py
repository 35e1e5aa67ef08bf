# SPDX-License-Identifier: BSD-3-Clause
"""A transformer layer whose activations are those of one chunk, around any attention."""

from __future__ import annotations

from typing import Callable, Optional

import torch
from torch import nn

from longattn.blockwise import blockwise_feedforward

# q, k, v [batch, length, heads, head_dim], not rotated -> out like q
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class BlockwiseLayer(nn.Module):
    """x + to_out(attend(q, k, v)) with q, k, v = to_qkv(x), then x + feedforward(x): a pre-norm
    layer that computes in chunks whatever treats every position by itself (Blockwise Parallel
    Transformer, Liu and Abbeel 2023, arXiv 2305.19370). With a ring's attention between them
    (`plan.attention`; Liu et al. 2023, arXiv 2310.01889) nothing in it is as long as the sequence
    but, of a rank's own rows, x, q, k, v, the attention's out, and the sum of x and that.

    Args:
        to_qkv: a module with its norm, [..., width] -> [..., (q_heads + 2 * kv_heads) * head_dim]:
            heads of q, then of k, then of v.
        to_out: a linear module, [..., q_heads * head_dim] -> [..., width].
        feedforward: a module with its norm, [..., width] -> [..., width].
        q_heads, kv_heads: numbers of heads; kv_heads None is q_heads.
        chunk_size: positions computed at once, and again in the backward pass; see
            `blockwise_feedforward`, which also says what to_qkv and feedforward must be. None: all
            at once, and everything is kept.

    Raises:
        ValueError: to_qkv gives rows that are no multiple of q_heads + 2 * kv_heads.
    """

    def __init__(
        self,
        to_qkv: nn.Module,
        to_out: nn.Module,
        feedforward: nn.Module,
        *,
        q_heads: int,
        kv_heads: Optional[int] = None,
        chunk_size: Optional[int] = None,
    ):
        super().__init__()
        self.to_qkv, self.to_out, self.feedforward = to_qkv, to_out, feedforward
        self.q_heads, self.kv_heads = q_heads, q_heads if kv_heads is None else kv_heads
        self.chunk_size = chunk_size

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        """x: [batch, length, width]. attend: (q, k, v), each [batch, length, heads, head_dim] and
        not rotated, -> out like q; for instance
        `lambda q, k, v: plan.attention(*rotated(q, k), v, Causal())`."""
        heads = self.q_heads + 2 * self.kv_heads
        qkv = self._pointwise(self.to_qkv, x)
        if qkv.shape[-1] % heads:
            raise ValueError(
                f"to_qkv must give a multiple of {heads} numbers for each position, for "
                f"{self.q_heads} heads of q and {self.kv_heads} each of k and v, got "
                f"{qkv.shape[-1]}"
            )
        q, k, v = qkv.unflatten(-1, (heads, -1)).split(
            (self.q_heads, self.kv_heads, self.kv_heads), dim=-2
        )
        x = x + self.to_out(attend(q, k, v).flatten(-2))
        return x + self._pointwise(self.feedforward, x)

    def _pointwise(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.chunk_size is None:
            return module(x)
        return blockwise_feedforward(module, x, self.chunk_size)
