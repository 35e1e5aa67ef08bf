# SPDX-License-Identifier: BSD-3-Clause
"""A small byte-level decoder. Attention is an argument, and positions are its business."""

from __future__ import annotations

from typing import Callable, Sequence, Union

import torch
from torch import nn
from torch.nn import functional

from longattn.blockwise import blockwise_feedforward

START = 256  # the token that opens every context; bytes are 0..255
VOCABULARY = 257
WIDTH, HEADS, LAYERS = 128, 4, 3

# q, k, v [batch, length, heads, head_dim], not rotated -> out of the same shape
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Attends = Union[Attend, Sequence[Attend]]  # one for all layers, or one for each


class Block(nn.Module):
    """chunk_size: None, or how many positions are in what is computed position by position: norms,
    projections and the feed-forward. The backward pass then repeats it, and of a layer as long as
    the sequence there are only x, q, k, v, the attention's out and the sum of x and that."""

    def __init__(self, width: int, heads: int, chunk_size: int | None = None):
        super().__init__()
        self.heads, self.chunk_size = heads, chunk_size
        self.attention_norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self._pointwise(nn.Sequential(self.attention_norm, self.to_qkv), x)
        q, k, v = qkv.view(batch, length, 3, self.heads, width // self.heads).unbind(dim=2)
        x = x + self.to_out(attend(q, k, v).reshape(batch, length, width))
        return x + self._pointwise(self.feedforward, x)

    def _pointwise(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.chunk_size is None:
            return module(x)
        return blockwise_feedforward(module, x, self.chunk_size)


class Decoder(nn.Module):
    def __init__(
        self,
        width: int = WIDTH,
        heads: int = HEADS,
        layers: int = LAYERS,
        chunk_size: int | None = None,
    ):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width, heads, chunk_size) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)  # it never has to predict START
        nn.init.normal_(self.embedding.weight, std=0.02)

    def __str__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        heads = self.blocks[0].heads
        head_dim = self.embedding.embedding_dim // heads
        return f"{size:,} parameters, {len(self.blocks)} layers, {heads} heads of {head_dim}"

    def forward(self, tokens: torch.Tensor, attends: Attends) -> torch.Tensor:
        """tokens [batch, length] -> logits of the next byte [batch, length, 256]"""
        if callable(attends):
            attends = [attends] * len(self.blocks)
        x = self.embedding(tokens)
        for block, attend in zip(self.blocks, attends, strict=True):
            x = block(x, attend)
        return self.head(self.norm(x))


def next_byte_loss(model: Decoder, text: torch.Tensor, attends: Attends) -> torch.Tensor:
    """text [batch, length] uint8 -> nats [batch, length], each byte predicted from those before."""
    target = text.long()
    start = torch.full_like(target[:, :1], START)
    logits = model(torch.cat((start, target[:, :-1]), dim=1), attends)
    return functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
