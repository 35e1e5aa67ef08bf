# SPDX-License-Identifier: BSD-3-Clause
"""xPos at any length: keys in chunks, each with a centre of its own, merged exactly."""

from __future__ import annotations

import dataclasses

import torch

from longattn import checks
from longattn.masks import DIAGONAL, GROUPS, UNBOUNDED, Causal, Groups, HeadRule, Mask, Window
from longattn.masks import check_flag, group_place
from longattn.patterns.bands import Band, Call, Keywords, attend, check_rope, prepare
from longattn.rotary import PositionMap, rotate
from longattn.rotary.apply import ONE_MAP
from longattn.rotary.maps import IDENTITY, MAX_MAPS
from longattn.rotary.xpos import BITS_OF_SCALE_BASE

# How far the factors of a chunk may grow and shrink, as a power of 2. The product of a query and a
# key that it does not see may have the square of that, and must be finite too.
BITS = {torch.float16: 8, torch.bfloat16: 58, torch.float32: 58, torch.float64: 480}


def xpos_attention(
    q,
    k,
    v,
    rope,
    *,
    window=None,
    block=None,
    causal=True,
    bias=None,
    softmax_scale=None,
    softcap=None,
    sink_logits=None,
    q_start=None,
    k_start=0,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    return_lse=False,
    deterministic=None,
    backend=None,
    **unsupported,
):
    """Causal attention with xPos (Sun et al. 2022, arXiv 2212.10554), of any length.

    q and k come raw: they are rotated here. Pair i of the rotary dimensions adds to the score of a
    query and a key at distance d its rotated product times zeta_i ** (d / scale_base), with
    zeta_i = (2 i + 0.4 dim) / (1.4 dim).

    The published form multiplies queries by zeta ** ((p - c) / scale_base) and keys by the inverse,
    for one centre c; with the usual scale_base of 512 that leaves float16 some 4500 positions from
    the centre, float32 and bfloat16 some 36000. Here keys are rotated around the centre of
    their own chunk, and queries once for each chunk that they see; the chunks' partials are merged.
    Short inputs are one chunk. The results are those of the formula at any length. Memory: one
    more q for every chunk (32000 positions in bfloat16 and float32, 4500 in float16). Keys are
    cached raw for decoding.

    Args:
        q: [batch, q_len, q_heads, head_dim], or packed [total_q, q_heads, head_dim]; raw.
        k: [batch, kv_len, kv_heads, head_dim], or packed; raw.
        rope: RotaryEmbedding.xpos(head_dim). torchscale's layout is the interleaved one.
        window: None, or the number of keys that a query sees, its own included; int or tuple of
            length q_heads.
        block: None, or the size of the blocks of the paper's blockwise causal attention, which it
            uses at inference: half the training length. A query sees its own block up to itself
            and the whole block before. Blocks begin at multiples of it in global positions.
        causal: True. Keys after the query would grow with their distance, so False raises.

    All other arguments, the result and the errors are those of `longattn.attention`.
    """
    if unsupported:
        checks.reject_unknown("xpos_attention", unsupported)
    check_rope("xpos_attention", rope, xpos=True)
    _check_causal(causal)
    near = None if window is None else Window(window)
    blocks = None if block is None else Groups(block, back=1)
    mask = Causal() if near is None else near
    mask = mask if blocks is None else mask & blocks
    keywords = Keywords(
        bias,
        softmax_scale,
        softcap,
        sink_logits,
        q_start,
        k_start,
        cu_seqlens_q,
        cu_seqlens_k,
        return_lse,
        deterministic,
        backend,
    )
    call = prepare(q, k, v, rope, None, keywords)
    checks.check_head_counts(mask, q.shape[-2])
    size = chunk_length(rope, _dtype_of_products(q))
    if k.shape[-3] <= size:
        return attend([_one_chunk(call, rope, mask, size)], call)
    groups_back = _groups_back(call, size, _reach(near, blocks))
    return attend(_chunks(call, rope, mask, size, groups_back), call)


def chunk_length(rope, dtype) -> int:
    """Keys of a chunk: its factors stay within 2 ** BITS[dtype] of 1."""
    return max(2 * int(BITS[dtype] * rope.xpos_scale_base / BITS_OF_SCALE_BASE), 2)


@dataclasses.dataclass(frozen=True)
class Chunk(Mask):
    """Keys of the chunk `back` chunks before that of the query."""

    size: int
    shift: int
    back: int

    def rule(self, head: int) -> HeadRule:
        place = group_place(self.size, self.shift, self.back)
        return HeadRule(((GROUPS, self.size, place), (DIAGONAL, UNBOUNDED, 0)))


def _one_chunk(call: Call, rope, mask, size: int) -> Band:
    """All keys around one centre. Queries before the keys, which see none, would grow too much."""
    q_places, k_places = _places(call)
    extent = 64  # the centre lies near the middle of the keys; few values, for torch.compile
    while extent < size and extent < call.k.shape[-3]:
        extent *= 2
    [pair] = rotate(
        call.q, call.k, rope, (q_places.clamp(min=0), k_places), ONE_MAP,
        xpos_centre=min(extent, size) / 2, backend=call.keywords.backend,
    )  # fmt: skip
    return Band(*pair, mask)


def _chunks(call: Call, rope, mask, size: int, groups_back) -> list:
    """One band for each distance in chunks. A position p is p % size in its chunk, and a query that
    looks `back` chunks back stands at p % size + back * size there."""
    q_places, k_places = (places.remainder(size) for places in _places(call))
    settings = dict(xpos_centre=size / 2, backend=call.keywords.backend)
    queries, keys = [], None
    for begin in range(0, len(groups_back), MAX_MAPS):
        maps = [
            (PositionMap(offset=float(back * size)), IDENTITY)
            for back in groups_back[begin : begin + MAX_MAPS]
        ]
        if keys is None:
            [(_, keys)] = rotate(
                _no_rows(call.q), call.k, rope, (q_places[:0], k_places), ONE_MAP, **settings
            )
        pairs = rotate(
            call.q, _no_rows(call.k), rope, (q_places, k_places[:0]), maps, **settings
        )
        queries += [of_q for of_q, _ in pairs]
    shift = 0 if call.packed else call.k_start % size
    return [
        Band(of_q, keys, mask & Chunk(size, shift, back))
        for of_q, back in zip(queries, groups_back)
    ]


def _places(call: Call) -> tuple:
    """Positions of queries and keys, counted from the first key: int64 [rows]."""
    if call.packed:
        return call.positions
    first_q = call.q_start - call.k_start
    q_len, kv_len = call.q.shape[1], call.k.shape[1]
    device = call.q.device
    return (
        torch.arange(first_q, first_q + q_len, device=device),
        torch.arange(kv_len, device=device),
    )


def _groups_back(call: Call, size: int, reach) -> list:
    """How many chunks before their own queries can see a key; `reach`: no key is further away."""
    chunks = -(-call.k.shape[-3] // size)
    if call.packed:
        least, most = 0, chunks - 1
    else:
        first = call.q_start - call.k_start
        last = first + call.q.shape[1] - 1
        least, most = max(first // size - chunks + 1, 0), max(last // size, 0)
    if reach is not None:
        most = min(most, (size - 1 + reach) // size)
    return list(range(least, max(most, least) + 1))


def _reach(near, blocks):
    """The largest distance that both masks show, or None."""
    reaches = [] if near is None else [_most(near.size) - 1]
    reaches += [] if blocks is None else [2 * _most(blocks.size) - 1]
    return min(reaches, default=None)


def _most(sizes) -> int:
    return max(sizes) if isinstance(sizes, tuple) else sizes


def _no_rows(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-3], 0, *x.shape[-2:]))


def _dtype_of_products(q: torch.Tensor) -> torch.dtype:
    """Of rotated q and k: autocast narrows them afterwards."""
    if q.dtype != torch.float64 and torch.is_autocast_enabled(q.device.type):
        return torch.get_autocast_dtype(q.device.type)
    return q.dtype


def _check_causal(causal) -> None:
    check_flag("causal", causal)
    if not causal:
        raise ValueError(
            "causal must be True in xpos_attention, got False: xPos shrinks keys before the query "
            "with their distance, and would let those after it grow"
        )
