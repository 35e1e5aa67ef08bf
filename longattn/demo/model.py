# SPDX-License-Identifier: BSD-3-Clause
"""A small byte-level decoder. Attention is an argument, and positions are its business."""

from __future__ import annotations

from typing import Sequence, Union

import torch
from torch import nn
from torch.nn import functional

from longattn.blockwise_layer import Attend, BlockwiseLayer

START = 256  # the token that opens every context; bytes are 0..255
VOCABULARY = 257
WIDTH, HEADS, LAYERS = 128, 4, 3

Attends = Union[Attend, Sequence[Attend]]  # one for all layers, or one for each


def block(width: int, heads: int, chunk_size: int | None = None) -> BlockwiseLayer:
    return BlockwiseLayer(
        nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)),
        nn.Linear(width, width, bias=False),
        nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        ),
        q_heads=heads,
        chunk_size=chunk_size,
    )


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
        self.blocks = nn.ModuleList(block(width, heads, chunk_size) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)  # it never has to predict START
        nn.init.normal_(self.embedding.weight, std=0.02)

    def __str__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        heads = self.blocks[0].q_heads
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
