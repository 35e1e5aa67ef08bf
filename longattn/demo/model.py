# SPDX-License-Identifier: BSD-3-Clause
"""A small byte-level decoder with rotary positions. The attention function is an argument."""

from __future__ import annotations

from typing import Callable

import torch
from torch import nn
from torch.nn import functional

START = 256  # the token that opens every context; bytes are 0..255
VOCABULARY = 257

# q, k (both rotated), v [batch, length, heads, head_dim] -> out of the same shape
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def rotate(x: torch.Tensor, position: torch.Tensor, base: float = 10_000.0) -> torch.Tensor:
    """RoPE, half-split layout: the pair (x_i, x_{i + head_dim/2}) turns by position * base^-2i/d.

    x [batch, length, heads, head_dim], position [length]. Rotations add up: rotating by p and then
    by -p gives x back.
    """
    head_dim = x.shape[3]
    frequency = base ** (-torch.arange(0, head_dim, 2, device=x.device) / head_dim)
    angle = position[:, None] * frequency  # [length, head_dim / 2]
    cosine, sine = angle.cos()[:, None, :], angle.sin()[:, None, :]  # the same for every head
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor, attend: Attend) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.to_qkv(self.attention_norm(x))
        q, k, v = qkv.view(batch, length, 3, self.heads, width // self.heads).unbind(dim=2)
        position = torch.arange(length, device=x.device)
        out = attend(rotate(q, position), rotate(k, position), v)
        x = x + self.to_out(out.reshape(batch, length, width))
        return x + self.feedforward(x)


class Decoder(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4, layers: int = 3):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)  # it never has to predict START
        nn.init.normal_(self.embedding.weight, std=0.02)

    def __str__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        heads = self.blocks[0].heads
        head_dim = self.embedding.embedding_dim // heads
        return f"{size:,} parameters, {len(self.blocks)} layers, {heads} heads of {head_dim}"

    def forward(self, tokens: torch.Tensor, attend: Attend) -> torch.Tensor:
        """tokens [batch, length] -> logits of the next byte [batch, length, 256]"""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, attend)
        return self.head(self.norm(x))


def next_byte_loss(model: Decoder, text: torch.Tensor, attend: Attend) -> torch.Tensor:
    """text [batch, length] uint8 -> nats [batch, length], each byte predicted from those before."""
    target = text.long()
    start = torch.full_like(target[:, :1], START)
    logits = model(torch.cat((start, target[:, :-1]), dim=1), attend)
    return functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
