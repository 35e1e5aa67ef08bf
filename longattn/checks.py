# SPDX-License-Identifier: BSD-3-Clause
"""Every wrong call ends here, before any work, with the value and what would be accepted."""

from __future__ import annotations

import math
import operator
from numbers import Integral, Real

import torch

from longattn import foreign
from longattn.backends import MAX_LENGTH, Backend, can_run, misalignment
from longattn.masks import MAX_HEADS, Mask, check_flag
from longattn.readable import has_values, may_read_values

MAX_POSITION = 2**61  # sums of positions and lengths stay inside 64 bits


def reject_unknown(function: str, keywords: dict) -> None:
    """For keywords outside a signature: those that other libraries have get a reason."""
    for name, value in keywords.items():
        if "dropout" in name:
            raise NotImplementedError(
                f"{function}() got {name}={value!r}: longattn has no dropout on attention weights; "
                "leave the argument out"
            )
        unexpected = f"{function}() got an unexpected keyword argument {name!r}"
        instead = foreign.advice(function, name)
        raise TypeError(f"{unexpected}: {instead}" if instead else unexpected)


def reject_not_yet(**arguments) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(
                f"{name} is not supported by this version, got {type(value).__name__}: pass None"
            )


def check_mask(mask) -> None:
    if isinstance(mask, Mask):
        return
    if isinstance(mask, type) and issubclass(mask, Mask):
        raise TypeError(
            f"mask is the class {mask.__name__}, not one of its values: write it with brackets, as "
            "longattn.Causal() or longattn.Window(1024)"
        )
    raise TypeError(
        f"mask {'is required and ' if mask is None else ''}must be a longattn mask (Full, Causal, "
        "Window, Band, Groups, Prefix, or several joined with &), got "
        f"{mask if isinstance(mask, (bool, int, str)) else type(mask)}"
    )


def check_head_counts(mask: Mask, q_heads: int) -> None:
    for count in mask.head_counts():
        if count != q_heads:
            raise ValueError(
                f"{mask} has a per-head tuple of length {count}, q has {q_heads} heads: "
                f"tuples must have length {q_heads}. {layout_hint(False)}; packed it is "
                "[total, heads, dim]"
            )


def check_is_tensor(name: str, value) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.is_nested:
        raise TypeError(
            f"{name} must not be a nested tensor: pack its sequences, [total, heads, dim], and "
            "give cu_seqlens_q and cu_seqlens_k (over several ranks, "
            "longattn.ring.plan(seq_len, cu_seqlens=...) and [1, total, heads, dim])"
        )


def check_tensors(q, k, v, backend: Backend, packed: bool) -> None:
    """Types, ranks, devices, dtypes and shapes of q, k and v."""
    rank = 3 if packed else 4
    device, dtype = q.device, q.dtype
    casts = torch.is_autocast_enabled(device.type)  # then the op brings them to one dtype
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_is_tensor(name, tensor)
        if tensor.dim() != rank:
            _raise_rank(name, tensor, packed)
        if tensor.device != device:
            raise ValueError(
                f"q, k and v must be on one device, q is on {device} and {name} on {tensor.device}"
            )
        if tensor.dtype != dtype and not casts:
            raise TypeError(
                f"q, k and v must have one dtype outside of autocast, q has {dtype} and "
                f"{name} has {tensor.dtype}"
            )
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            _raise_stride(name, tensor)
    if casts and dtype.is_floating_point and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device.type)
    usable, reason = can_run(backend, dtype)
    if not usable:
        raise TypeError(reason)
    _check_shapes(tuple(q.shape), tuple(k.shape), tuple(v.shape), packed, backend.max_dim)


def check_memory(q, k, v, backend: Backend, packed: bool) -> None:
    """What keeps native code inside the tensors. Asked by the op: after autocast, with addresses
    that exist, and for calls that pass by `attention` too."""
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(
            "q, k and v must have one dtype (autocast leaves float64 alone), got "
            f"{q.dtype}, {k.dtype} and {v.dtype}"
        )
    _check_shapes(tuple(q.shape), tuple(k.shape), tuple(v.shape), packed, backend.max_dim)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            _raise_stride(name, tensor)
        reason = misalignment(backend, tensor)
        if reason is not None:
            raise ValueError(
                f"the {backend.name} backend cannot read {name} with shape {tuple(tensor.shape)} "
                f"and strides {tensor.stride()}: {reason}"
            )


def check_results(q, v, outs: dict, lses: dict) -> None:
    """What keeps native code inside the results of a forward pass and their gradients."""
    out_shape = (*q.shape[:-1], v.shape[-1])
    lse_shape = (*q.shape[:-3], q.shape[-2], q.shape[-3])
    for tensors, shape in ((outs, out_shape), (lses, lse_shape)):
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            if tuple(tensor.shape) != shape or tensor.device != q.device:
                raise ValueError(
                    f"{name} must have shape {shape} on {q.device}, got {tuple(tensor.shape)} on "
                    f"{tensor.device}"
                )


def _raise_stride(name: str, tensor):
    raise ValueError(
        f"the last dimension of {name} must be contiguous (stride 1), got stride "
        f"{tensor.stride(-1)}: call {name}.contiguous()"
    )


def _raise_rank(name: str, tensor, packed: bool):
    rank, layout = (3, "[total, heads, dim]") if packed else (4, "[batch, length, heads, dim]")
    raise ValueError(
        f"{name} must have {rank} dimensions {layout}{' with cu_seqlens' if packed else ''}, got "
        f"shape {tuple(tensor.shape)}"
    )


def _check_shapes(q_shape, k_shape, v_shape, packed: bool, max_dim: int) -> None:
    *_, q_heads, head_dim = q_shape
    *_, kv_heads, key_dim = k_shape
    for name, length in (("q", q_shape[-3]), ("k", k_shape[-3])):
        if length > MAX_LENGTH:
            raise ValueError(f"{name} must have at most {MAX_LENGTH} rows, got {length}")
    if head_dim != key_dim:
        raise ValueError(f"q and k must have one head_dim, got {head_dim} and {key_dim}")
    if not 1 <= head_dim <= max_dim:
        raise ValueError(f"head_dim must be in [1, {max_dim}], got {head_dim}")
    if not 1 <= v_shape[-1] <= max_dim:
        raise ValueError(f"value_dim must be in [1, {max_dim}], got {v_shape[-1]}")
    if k_shape[:-1] != v_shape[:-1]:
        raise ValueError(
            f"k and v must agree in all but the last dimension, got {k_shape} and {v_shape}"
        )
    if not packed and q_shape[0] != k_shape[0]:
        raise ValueError(f"q and k must have one batch size, got {q_shape[0]} and {k_shape[0]}")
    if not 1 <= q_heads <= MAX_HEADS:
        raise ValueError(
            f"q must have 1 to {MAX_HEADS} heads, got {q_heads}. {layout_hint(packed)}"
        )
    if kv_heads < 1 or q_heads % kv_heads:
        raise ValueError(
            f"the heads of q must be a multiple of those of k and v, got {q_heads} and {kv_heads}. "
            f"{layout_hint(packed)}"
        )


def layout_hint(packed: bool) -> str:
    """For counts of heads, which may be lengths to someone who has another layout in mind."""
    if packed:
        return "The layout is [total, heads, dim] (heads second, as FlashAttention)"
    return "The layout is [batch, length, heads, dim] (heads third, as FlashAttention)"


def check_cu_seqlens(q, k, cu_seqlens_q, cu_seqlens_k) -> None:
    """Both or neither; the values are checked by the op, where they are sure to exist."""
    given = {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k}
    for name, borders in given.items():
        if not isinstance(borders, torch.Tensor):
            raise TypeError(
                "cu_seqlens_q and cu_seqlens_k must both be tensors when one of them is given, "
                f"{name} is {type(borders).__name__}"
            )
        if borders.dim() != 1 or borders.shape[0] < 1:
            raise ValueError(
                f"{name} must have shape [sequences + 1], got {tuple(borders.shape)}"
            )
        if borders.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must be int32 or int64, got {borders.dtype}")
        if borders.device != q.device:
            raise ValueError(f"{name} must be on q's device {q.device}, got {borders.device}")
    if cu_seqlens_q.shape != cu_seqlens_k.shape:
        raise ValueError(
            "cu_seqlens_q and cu_seqlens_k must have one length, got "
            f"{cu_seqlens_q.shape[0]} and {cu_seqlens_k.shape[0]}"
        )


def check_known_borders(q, k, cu_seqlens_q, cu_seqlens_k) -> None:
    """The values of cu_seqlens, for who uses them before the op does."""
    if may_read_values(q.device) and has_values(cu_seqlens_q) and has_values(cu_seqlens_k):
        check_borders("cu_seqlens_q", cu_seqlens_q.tolist(), q.shape[0])
        check_borders("cu_seqlens_k", cu_seqlens_k.tolist(), k.shape[0])


def check_borders(name: str, borders: list, total: int) -> None:
    """Values of cu_seqlens: from 0, never falling, to the total."""
    if borders[0] != 0:
        raise ValueError(f"{name} must start at 0, got {borders[0]}")
    for before, after in zip(borders, borders[1:]):
        if after < before:
            raise ValueError(f"{name} must not decrease, got {before} followed by {after}")
    if borders[-1] != total:
        raise ValueError(f"{name} must end at the total length {total}, got {borders[-1]}")


def check_positions(packed: bool, q_start, k_start) -> tuple:
    """-> (q_start, k_start), integers of NumPy as Python's."""
    if packed and (q_start is not None or k_start != 0):
        raise ValueError(
            f"q_start and k_start cannot be given with cu_seqlens, got q_start={q_start} and "
            f"k_start={k_start}: packed sequences are aligned at their ends, each by itself"
        )
    if q_start is not None:
        _check_start("q_start", q_start, " or None")
    _check_start("k_start", k_start, "")
    return _plain(q_start), _plain(k_start)


def _plain(start):
    return start if isinstance(start, (int, torch.SymInt, type(None))) else operator.index(start)


def _check_start(name: str, start, alternative: str) -> None:
    if not isinstance(start, (int, torch.SymInt, Integral)) or isinstance(start, bool):
        raise TypeError(f"{name} must be an integer{alternative}, got {start!r}")
    if not -MAX_POSITION <= start <= MAX_POSITION:
        raise ValueError(f"{name} must be in [{-MAX_POSITION}, {MAX_POSITION}], got {start}")


def check_scale(softmax_scale) -> None:
    accepted = (int, float, torch.SymFloat, Real)
    if softmax_scale is None:
        return
    if not isinstance(softmax_scale, accepted) or isinstance(softmax_scale, bool):
        raise TypeError(f"softmax_scale must be a number or None, got {softmax_scale!r}")
    if not -math.inf < softmax_scale < math.inf:
        raise ValueError(f"softmax_scale must be finite, got {softmax_scale}")


def check_switches(return_lse, deterministic) -> None:
    check_flag("return_lse", return_lse)
    if deterministic is not None and not isinstance(deterministic, bool):
        raise TypeError(f"deterministic must be True, False or None, got {deterministic!r}")


def check_branches(segment_lengths, dilation_rates, head_offset, accepted_offsets) -> None:
    """The lists of LongNet's branches."""
    for name, values in (("segment_lengths", segment_lengths), ("dilation_rates", dilation_rates)):
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"{name} must be a list or tuple of integers, got {values!r}")
    if len(segment_lengths) != len(dilation_rates) or not len(segment_lengths):
        raise ValueError(
            "segment_lengths and dilation_rates must have one length of at least 1, got "
            f"{list(segment_lengths)} and {list(dilation_rates)}"
        )
    for name, values in (("segment_lengths", segment_lengths), ("dilation_rates", dilation_rates)):
        for value in values:
            if not isinstance(value, (int, Integral)) or isinstance(value, bool):
                raise TypeError(f"{name} must hold integers, got {value!r}")
            if not 1 <= value < 2**31:
                raise ValueError(f"{name} must hold values in [1, {2**31 - 1}], got {value}")
    if not isinstance(head_offset, str) or head_offset not in accepted_offsets:
        raise ValueError(
            f"head_offset must be one of {sorted(accepted_offsets)}, got {head_offset!r}"
        )
