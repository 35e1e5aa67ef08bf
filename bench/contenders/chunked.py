# SPDX-License-Identifier: BSD-3-Clause
"""The loop that a user writes: blocks of queries against the keys that they need, by SDPA.

In its fastest form: tensors are split once, since the gradient of a slice is as long as what it was
cut from, and blocks that see alike share one mask."""

from __future__ import annotations

import torch

from bench.contenders.base import Contender
from bench.contenders.sdpa import attend

CHUNKED = "chunked SDPA loop"
CHUNK = 256


def pieces(length: int, sink_tokens: int, chunk: int = CHUNK) -> list:
    """Borders of what keys are split into: the sinks, and blocks of `chunk`."""
    return sorted({min(sink_tokens, length), *range(0, length, chunk), length})


def needed(start: int, stop: int, window: int, sink_tokens: int, borders: list) -> list:
    """Numbers of the pieces of which queries [start, stop) see something."""
    near = start - window + 1
    return [
        number
        for number, (begin, end) in enumerate(zip(borders, borders[1:]))
        if begin < stop and (end > near or end <= sink_tokens)
    ]


def blocks(length: int, window: int, sink_tokens: int, chunk: int = CHUNK):
    """(start, stop, numbers of the pieces, their positions) of each block of queries."""
    borders = pieces(length, sink_tokens, chunk)
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        numbers = needed(start, stop, window, sink_tokens, borders)
        positions = [torch.arange(borders[n], borders[n + 1]) for n in numbers]
        yield start, stop, numbers, torch.cat(positions)


def split(x, borders: list):
    """[batch, heads, length, dim] into its pieces."""
    return x.split([end - begin for begin, end in zip(borders, borders[1:])], 2)


def joined(parts, numbers: list):
    """The parts with these numbers, one after the other."""
    chosen = [parts[number] for number in numbers]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, 2)


def chunked_lambda(length: int, window: int, sink_tokens: int, device="cpu", chunk: int = CHUNK):
    """-> the function of q, k, v [batch, heads, length, dim]."""
    borders, plan, masks = pieces(length, sink_tokens, chunk), [], {}
    for start, stop, numbers, positions in blocks(length, window, sink_tokens, chunk):
        distance = torch.arange(start, stop)[:, None] - positions
        mask = (distance >= 0) & ((distance < window) | (positions < sink_tokens))
        shared = masks.setdefault((*mask.shape, mask.numpy().tobytes()), mask.to(device))
        plan.append((numbers, shared))

    def call(q, k, v):
        keys, values = split(k, borders), split(v, borders)
        outs = [
            attend(rows, joined(keys, numbers), joined(values, numbers), attn_mask=mask)
            for rows, (numbers, mask) in zip(q.split(chunk, 2), plan)
        ]
        return torch.cat(outs, 2)

    return call


def chunked(case, window: int, sink_tokens: int = 0) -> Contender:
    def prepare():
        call = chunked_lambda(case.length, window, sink_tokens, case.device)
        return lambda q, k, v, *_: call(q, k, v)

    return Contender(CHUNKED, prepare)
