# SPDX-License-Identifier: BSD-3-Clause
"""What is trained: a decoder for each way to tell positions, all else alike."""

from __future__ import annotations

import dataclasses
from typing import Callable

import torch

import longattn
from longattn import Causal, LogN, RotaryEmbedding, Window
from longattn.demo.extrapolation.rotary_rows import rotary_rows, rotated_attention
from longattn.demo.extrapolation.settings import ExtrapolationSettings
from longattn.demo.model import HEADS, LAYERS, WIDTH, Attends

HEAD_DIM = WIDTH // HEADS
SMALLEST_KERPLE = 0.01  # the authors' clamp


@dataclasses.dataclass(frozen=True)
class Weights:
    """One decoder."""

    attends: Attends  # in training
    rows: dict[str, Callable[[int], Attends]]  # label -> multiple of the length -> in evaluation
    learned: tuple = ()  # the attention's own parameters


def all_weights(settings: ExtrapolationSettings) -> dict[str, Weights]:
    """By name, in the order of the table."""
    length = settings.length
    rope = RotaryEmbedding(HEAD_DIM)
    return {
        "RoPE": Weights(rotated_attention(rope), rotary_rows(rope, length)),
        "ALiBi": _same_everywhere("ALiBi", _alibi),
        "KERPLE": _kerple(settings.seed),
        "xPos": _xpos(length),
        "KeyNorm": _same_everywhere("KeyNorm (RoPE, keys of norm 1)", _key_norm(rope)),
        "HWFA": _hwfa(rope, length),
    }


def _same_everywhere(label: str, attends: Attends, learned=()) -> Weights:
    """Evaluated as it was trained."""
    return Weights(attends, {label: lambda multiple: attends}, tuple(learned))


def _alibi(q, k, v):
    return longattn.attention(q, k, v, Causal(), bias=longattn.Alibi())


def _kerple(seed: int) -> Weights:
    """Both parameters learned by each head of each layer, drawn and clamped as the authors do."""
    generator = torch.Generator().manual_seed(seed)
    attends, learned = [], []
    for _ in range(LAYERS):
        r1 = torch.nn.Parameter(2 * torch.rand(HEADS, generator=generator))
        r2 = torch.nn.Parameter(torch.rand(HEADS, generator=generator))
        attends.append(_kerple_layer(r1, r2))
        learned += [r1, r2]
    return _same_everywhere("KERPLE, logarithmic", attends, learned)


def _kerple_layer(r1, r2):
    def attend(q, k, v):
        with torch.no_grad():
            r1.clamp_(min=SMALLEST_KERPLE)
            r2.clamp_(min=SMALLEST_KERPLE)
        return longattn.attention(q, k, v, Causal(), bias=longattn.Kerple(r1, r2, kind="log"))

    return attend


def _xpos(length: int) -> Weights:
    """Causal in training; at inference two blocks of half the training length, as the paper has."""
    rope, block = RotaryEmbedding.xpos(HEAD_DIM), length // 2

    def train(q, k, v):
        return longattn.xpos_attention(q, k, v, rope)

    def in_blocks(q, k, v):
        return longattn.xpos_attention(q, k, v, rope, block=block)

    return Weights(train, {f"xPos, causal blocks of {block}": lambda multiple: in_blocks})


def _key_norm(rope: RotaryEmbedding):
    return rotated_attention(rope, key_norm=True, softmax_scale=1.0)


def _hwfa(rope: RotaryEmbedding, length: int) -> Weights:
    """Windows with RoPE that together reach 3/4 of the length, then one full layer without RoPE."""
    window = (3 * length // 4 - 1) // (LAYERS - 1) + 1
    nope = RotaryEmbedding(HEAD_DIM, scaling=longattn.rope.Proportional(partial_rotary_factor=0))
    full = rotated_attention(nope, q_scale=LogN(length, post_hoc=False))
    layers = [rotated_attention(rope, Window(window))] * (LAYERS - 1) + [full]
    return _same_everywhere(f"HWFA: windows of {window}, last layer full", layers)
