# SPDX-License-Identifier: BSD-3-Clause
"""One softmax over bands of keys, with a rotation of its own in each: what the patterns that take
raw q and k share."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional

import torch

from longattn import backends, checks, ops, score_arguments
from longattn.attention import attention, default_scale, encode_rules
from longattn.band_engine import encode
from longattn.distance_sums import distance_range
from longattn.masks import DIAGONAL, LEADING, UNBOUNDED, HeadRule, Mask, PerHead
from longattn.rope import RotaryEmbedding
from longattn.rotary.checks import check_seq_len
from longattn.rotary.positions import Positions, extent, resolve


@dataclasses.dataclass(frozen=True)
class Far(Mask):
    """Keys that are `window` and more before the query: what Window(window) leaves of Causal().
    With `sink_tokens` only the first keys of the sequence. Not public: near and far are merged."""

    window: PerHead
    sink_tokens: Optional[PerHead] = None

    def rule(self, head: int) -> HeadRule:
        window, sinks = (
            value[head] if isinstance(value, tuple) else value
            for value in (self.window, self.sink_tokens)
        )
        diagonal = (DIAGONAL, UNBOUNDED, -window)
        if sinks == 0:  # no key, not even before position 0
            return HeadRule((diagonal, (DIAGONAL, 0, 0)))
        return HeadRule((diagonal,) if sinks is None else ((LEADING, sinks, 0), diagonal))


class Band(NamedTuple):
    """Rotated queries and keys, and who sees whom there."""

    q: torch.Tensor
    k: torch.Tensor
    mask: Mask


class Keywords(NamedTuple):
    """The common keywords of all patterns, as they were given."""

    bias: object
    softmax_scale: object
    softcap: object
    sink_logits: object
    q_start: object
    k_start: object
    cu_seqlens_q: object
    cu_seqlens_k: object
    return_lse: object
    deterministic: object
    backend: object


class Call(NamedTuple):
    """Raw q and k, and where they stand. Every distance (query - key) of the call lies in
    [nearest, farthest]; both are known without reading a tensor."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    keywords: Keywords
    packed: bool
    q_start: int
    k_start: int
    nearest: int
    farthest: int
    positions: object  # as `rotate` takes them
    seq_len: Optional[int]  # the length that a rope depends on; None if it does not


def prepare(q, k, v, rope, seq_len, keywords: Keywords) -> Call:
    """Refuses wrong tensors and positions before anything is rotated."""
    packed = keywords.cu_seqlens_q is not None or keywords.cu_seqlens_k is not None
    checks.check_is_tensor("q", q)
    backend = backends.choose(keywords.backend, q.device)
    checks.check_tensors(q, k, v, backend, packed)
    checks.check_scale(keywords.softmax_scale)
    checks.check_switches(keywords.return_lse, keywords.deterministic)
    score_arguments.check(q, keywords.bias, keywords.softcap, keywords.sink_logits)
    q_start, k_start = checks.check_positions(packed, keywords.q_start, keywords.k_start)
    if packed:
        checks.check_cu_seqlens(q, k, keywords.cu_seqlens_q, keywords.cu_seqlens_k)
        checks.check_known_borders(q, k, keywords.cu_seqlens_q, keywords.cu_seqlens_k)
        q_start = 0
    elif q_start is None:
        q_start = k_start + k.shape[1] - q.shape[1]
    nearest, span = distance_range(q.shape[-3], k.shape[-3], q_start, k_start, packed)
    farthest = nearest + span - 1
    if packed:
        positions = packed_positions(
            q.shape[0], k.shape[0], keywords.cu_seqlens_q, keywords.cu_seqlens_k
        )
    else:
        positions = Positions(None, None, q_start, k_start)
    seq_len = check_seq_len(seq_len)
    if rope.depends_on_length and seq_len is None:
        found = extent(resolve(positions, q, k), q, k, None, "a scaling that depends on it")
        seq_len = max(found[1] + 1, 1)
    return Call(
        q, k, v, keywords, packed, q_start, k_start, nearest, farthest, positions, seq_len
    )  # fmt: skip


def check_rope(function: str, rope, *, xpos: bool) -> None:
    """`xpos`: whether the pattern wants xPos's rotation or cannot have it."""
    if not isinstance(rope, RotaryEmbedding):
        raise TypeError(
            f"rope of {function} must be a longattn.RotaryEmbedding, got {type(rope).__name__}: "
            "RotaryEmbedding.from_hf(config) makes one of a model's configuration"
        )
    if xpos and rope.xpos_scale_base is None:
        raise ValueError(
            f"rope of {function} must be one of RotaryEmbedding.xpos(...), got xpos_scale_base="
            "None: plain rotations go with longattn.apply_rotary and longattn.attention"
        )
    if not xpos and rope.xpos_scale_base is not None:
        raise ValueError(
            f"{function} rotates in two ways and xPos in a third, got a rope with "
            f"xpos_scale_base={rope.xpos_scale_base}: pass a rope without xPos, or use "
            "longattn.xpos_attention"
        )


def packed_positions(total_q: int, total_k: int, cu_seqlens_q, cu_seqlens_k) -> tuple:
    """Positions of packed queries and keys: keys count from 0 in each sequence, whose last query
    stands at its last key. No value is read on the host."""
    ends_q, ends_k = cu_seqlens_q.long(), cu_seqlens_k.long()
    rows_q = torch.arange(total_q, device=ends_q.device)
    rows_k = torch.arange(total_k, device=ends_k.device)
    of_q = torch.searchsorted(ends_q[1:], rows_q, right=True).clamp(max=ends_q.shape[0] - 2)
    of_k = torch.searchsorted(ends_k[1:], rows_k, right=True).clamp(max=ends_k.shape[0] - 2)
    beyond_last = ends_k.diff() - ends_q[1:]  # of a sequence: its first row after the last key's
    return rows_q + beyond_last[of_q], rows_k - ends_k[of_k]


def attend(bands: list, call: Call):
    """out, or (out, lse): one softmax over the keys of all bands, which must be disjoint."""
    keywords, v = call.keywords, call.v
    if len(bands) == 1:
        [(q, k, mask)] = bands
        if not call.packed:  # k may be the first keys only: positions do not follow from its length
            keywords = keywords._replace(q_start=call.q_start, k_start=call.k_start)
            v = v[:, : k.shape[1]]
        return attention(q, k, v, mask, **keywords._asdict())
    q = bands[0].q
    backend = backends.choose(keywords.backend, q.device)
    scores = score_arguments.lower(
        q,
        bands[0].k,
        keywords.bias,
        keywords.softcap,
        keywords.sink_logits,
        call.q_start,
        call.k_start,
        packed=(keywords.cu_seqlens_q, keywords.cu_seqlens_k) if call.packed else None,
        masks=[band.mask for band in bands],
    )
    out, lse = ops.attention_bands(
        [band.q for band in bands],
        [band.k for band in bands],
        v,
        keywords.cu_seqlens_q,
        keywords.cu_seqlens_k,
        scores.bias,
        scores.sink_logits,
        encode([encode_rules(band.mask, q.shape[-2]) for band in bands]),
        scores.bias_form,
        default_scale(q, keywords.softmax_scale),
        scores.softcap,
        call.q_start,
        call.k_start,
        backend.name,
    )
    return (out, lse) if keywords.return_lse else out
