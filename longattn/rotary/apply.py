# SPDX-License-Identifier: BSD-3-Clause
"""`apply_rotary`, and `rotate`, which patterns of several bands use."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from longattn import backends
from longattn.checks import check_is_tensor
from longattn.logn import LogN
from longattn.readable import active_fake_mode
from longattn.rotary import checks, ops, xpos
from longattn.rotary import positions as places
from longattn.rotary.maps import IDENTITY

ONE_MAP = ((IDENTITY, IDENTITY),)


def apply_rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    rope,
    positions=None,
    *,
    q_bias=None,
    k_bias=None,
    key_norm=False,
    q_scale=None,
    inplace=False,
    seq_len=None,
    backend=None,
):
    """Rotate queries and keys to their positions (RoPE: Su et al. 2021, arXiv 2104.09864).

    One pass over q and k: add the bias, divide by the norm, rotate (times rope's attention_factor),
    scale. Angles are exact to the dtype at every position up to 2**61: they are reduced in more
    than double precision, where position * inv_freq in float32 is off by 0.06 at 2**20.

    Args:
        q: [batch, q_len, q_heads, head_dim], or packed [total_q, q_heads, head_dim]; float16,
            bfloat16, float32, and float64 on the CPU. head_dim is rope's and at most 256. Any
            strides, as long as the last dimension is contiguous; on CUDA addresses and strides at
            multiples of 16 bytes.
        k: [batch, kv_len, kv_heads, head_dim], or packed [total_k, kv_heads, head_dim].
        rope: a `RotaryEmbedding`. Dimensions beyond its rotary_dim are not rotated and not
            multiplied with the attention factor; bias, norm and q_scale are theirs too.
        positions: None counts keys from 0 and puts the last query at the last key. Else an int64
            tensor [len] or [batch, len] (or [1, len]; packed [total]) for queries and keys alike,
            or a pair (q_positions, k_positions) of them. float64 serves positions between the
            integers. Packed sequences may be counted through where that leaves their distances as
            they are and nothing else depends on positions: as many queries as keys, no LogN, no
            table that goes by the length; else None raises.
        q_bias, k_bias: [heads, head_dim], any floating dtype, added before all else (RoPE + bias,
            kexue.fm 9577).
        key_norm: True divides keys by their norm, "query" queries, "both" both (kexue.fm 9859);
            norms are at least 1e-12, as in torch.nn.functional.normalize. Keys or queries alone
            want softmax_scale=1 in the attention; both (CosA) want 4 ln n, n half the trained
            length.
        q_scale: a factor on queries: a number, or LogN(training_length), which goes by position.
        inplace: overwrite q and k, which are returned. They may be views, must not overlap, and
            must not be leaves that require grad. As with torch's own in-place functions their
            versions count up, so that backward passes which need the old values raise. Gradients
            flow, except through key_norm, which would need them.
        seq_len: the length by which scalings that depend on it choose their table. None: the
            largest position + 1, for which a tensor on the CPU is read; on CUDA that would wait
            for the device, so seq_len must then be given.
        backend: None (by device), "cpu" or "cuda".

    Returns:
        (q, k), rotated, in their dtype, contiguous unless in place. Gradients reach q, k, q_bias
        and k_bias, in one launch, the same bit by bit in every run. There are no second
        derivatives.

    xPos (arXiv 2212.10554) multiplies queries by exp((p - c) g) and keys by exp(-(p - c) g); c is
    the middle of the call's positions, so only q and k of one call go together: cache raw keys.

    DeepSeek's models want their softmax scale times rope.softmax_scale_factor.

    Raises:
        TypeError, ValueError, NotImplementedError: before any work; the message names the value
        and what is accepted. ValueError too where xPos's positions span more than the dtype can
        hold (`longattn.xpos_attention` has no such limit).
    """
    check_is_tensor("q", q)
    check_is_tensor("k", k)
    q, k = _one_dtype(q, k)
    arguments = _arguments(
        q, k, rope, positions, ONE_MAP, q_bias, k_bias, key_norm, q_scale, seq_len, 1, None, backend
    )
    checks.check_in_place(q, k, inplace, key_norm)
    if inplace:
        ops.rotate_(q, k, *arguments)
        return q, k
    return tuple(ops.rotate(q, k, *arguments))


def rotate(
    q,
    k,
    rope,
    positions,
    maps,
    *,
    q_bias=None,
    k_bias=None,
    key_norm=False,
    q_scale=None,
    seq_len=None,
    factor_power=1,
    xpos_centre=None,
    backend=None,
):
    """`apply_rotary` for several bands: a tuple of pairs (q_m, k_m), one for each pair (q_map,
    k_map) of `maps`, in one launch that reads q and k once. q_scale goes by position before maps.

    factor_power: rope's attention factor is taken to this power, for a side that is alone.
    xpos_centre: where xPos's growth is 1, and the caller's promise that no vector that counts grows
    out of the dtype's range; None: the middle of all mapped positions, which is checked.
    """
    check_is_tensor("q", q)
    check_is_tensor("k", k)
    checks.check_maps(maps)
    q, k = _one_dtype(q, k)
    arguments = _arguments(
        q, k, rope, positions, tuple(maps), q_bias, k_bias, key_norm, q_scale, seq_len,
        factor_power, xpos_centre, backend,
    )  # fmt: skip
    results = ops.rotate(q, k, *arguments)
    return tuple(zip(results[::2], results[1::2]))


def _one_dtype(q, k) -> tuple:
    """Under autocast q and k may come in two dtypes; else they are left as they are."""
    if q.dtype == k.dtype or not torch.is_autocast_enabled(q.device.type):
        return q, k
    dtype = torch.get_autocast_dtype(q.device.type)
    return q.to(dtype), k.to(dtype)


def _arguments(
    q, k, rope, positions, maps, q_bias, k_bias, key_norm, q_scale, seq_len, factor_power,
    xpos_centre, backend,
) -> tuple:  # fmt: skip
    """What the ops take after q and k."""
    backend = backends.choose(backend, q.device)
    checks.check_call(q, k, rope, key_norm, q_scale, backend)
    seq_len = checks.check_seq_len(seq_len)
    for name, bias, tensor in (("q_bias", q_bias, q), ("k_bias", k_bias, k)):
        if bias is not None:
            checks.check_bias(name, bias, tensor)
    if positions is None and q.dim() == 3:
        checks.check_counted(q, k, rope, q_scale, seq_len)
    positions = places.resolve(positions, q, k)
    length, centre = None, 0.0
    if rope.depends_on_length:
        length = seq_len
        if length is None:
            length = places.extent(positions, q, k, None, "a scaling that depends on it")[1] + 1
            length = max(length, 1)
    inv_freq, attention_factor, log_growth = tables(rope, length)
    if log_growth is not None:
        centre = _centre(positions, q, k, maps, rope, seq_len, xpos_centre)
    q_norm, k_norm = checks.NORMS[key_norm]
    factor, log_length, at_least_one = _row_scale(q_scale)
    return (
        inv_freq,
        log_growth,
        positions.q,
        positions.k,
        q_bias,
        k_bias,
        [number for pair in maps for side in pair for number in side.numbers()],
        positions.q_start,
        positions.k_start,
        attention_factor**factor_power,
        centre,
        rope.interleaved,
        q_norm,
        k_norm,
        factor,
        log_length,
        at_least_one,
        backend.name,
    )


def _centre(positions, q, k, maps, rope, seq_len, given) -> float:
    if given is not None:
        return float(given)
    low, high = places.extent(positions, q, k, seq_len, "xPos")
    return xpos.centre_of(low, high, maps, rope.xpos_scale_base, q.dtype)


def _row_scale(q_scale) -> tuple:
    if isinstance(q_scale, LogN):
        return 1.0, math.log(q_scale.training_length), q_scale.post_hoc
    return 1.0 if q_scale is None else float(q_scale), 0.0, False


def tables(rope, seq_len) -> tuple:
    """(inv_freq, attention_factor, log_growth or None) of a rope, for a length where it matters."""
    if torch.compiler.is_compiling():  # which looks through a cache, and warns that it does
        return _tables(rope, seq_len)
    mode = active_fake_mode()
    if mode is None:
        return _cached_tables(rope, seq_len)
    with unset_fake_temporarily():
        found = _cached_tables(rope, seq_len)
    return tuple(mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in found)


def _tables(rope, seq_len) -> tuple:
    if seq_len is None:
        return rope.inv_freq, rope.attention_factor, rope.xpos_log_growth
    return rope.inv_freq_for(seq_len), rope.attention_factor_for(seq_len), rope.xpos_log_growth


@lru_cache(maxsize=64)
def _cached_tables(rope, seq_len) -> tuple:
    with torch.inference_mode(False):  # autograd keeps them, whoever asked first
        return _tables(rope, seq_len)
