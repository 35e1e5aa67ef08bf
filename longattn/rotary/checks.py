# SPDX-License-Identifier: BSD-3-Clause
"""Every wrong call of the rotary functions ends here, before any work."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch

from longattn import backends
from longattn.checks import check_flag, check_is_tensor
from longattn.logn import LogN
from longattn.readable import has_values
from longattn.rope import RotaryEmbedding
from longattn.rope.fields import plain_integer
from longattn.rotary.maps import MAX_MAPS, PositionMap
from longattn.rotary.memory import shares_elements

MAX_DIM = 256  # kMaxRotaryDim of csrc/semantics/rotary.h
POSITION_DTYPES = (torch.int64, torch.float64)
NORMS = {False: (False, False), True: (False, True), "query": (True, False), "both": (True, True)}


def check_call(q, k, rope, key_norm, q_scale, backend) -> None:
    """What a call of `apply_rotary` or `rotate` is given, but for positions."""
    if not isinstance(rope, RotaryEmbedding):
        raise TypeError(
            f"rope must be a longattn.RotaryEmbedding, got {type(rope).__name__}: "
            "RotaryEmbedding.from_hf(config) makes one of a model's configuration"
        )
    check_tensors(q, k, backend)
    if q.shape[-1] != rope.head_dim:
        raise ValueError(f"q and k must have rope's head_dim {rope.head_dim}, got {q.shape[-1]}")
    if not isinstance(key_norm, (bool, str)) or key_norm not in NORMS:
        raise ValueError(
            f"key_norm must be False, True (keys), 'query' or 'both', got {key_norm!r}"
        )
    check_q_scale(q_scale)


def check_tensors(q, k, backend: backends.Backend) -> None:
    """Types, ranks, devices, dtypes and shapes of q and k."""
    for name, tensor in (("q", q), ("k", k)):
        check_is_tensor(name, tensor)
        if tensor.dim() not in (3, 4):
            raise ValueError(
                f"{name} must have 4 dimensions [batch, length, heads, dim], or 3 if packed "
                f"[total, heads, dim], got shape {tuple(tensor.shape)}"
            )
    if q.device != k.device:
        raise ValueError(f"q and k must be on one device, got {q.device} and {k.device}")
    if q.dtype != k.dtype:
        raise TypeError(f"q and k must have one dtype, got {q.dtype} and {k.dtype}")
    if q.dtype not in dtypes_of(backend):
        accepted = ", ".join(map(str, dtypes_of(backend)))
        raise TypeError(f"q has dtype {q.dtype}; rotations on {backend.name} take {accepted}")
    if q.dim() != k.dim() or (q.dim() == 4 and q.shape[0] != k.shape[0]):
        raise ValueError(
            "q and k must both be packed or have one batch size, got shapes "
            f"{tuple(q.shape)} and {tuple(k.shape)}"
        )
    if q.shape[-1] != k.shape[-1] or not 2 <= q.shape[-1] <= MAX_DIM:
        raise ValueError(
            f"q and k must have one head_dim in [2, {MAX_DIM}], got {q.shape[-1]} and {k.shape[-1]}"
        )
    for name, tensor in (("q", q), ("k", k)):
        if tensor.stride(-1) != 1:
            raise ValueError(
                f"the last dimension of {name} must be contiguous (stride 1), got stride "
                f"{tensor.stride(-1)}: call {name}.contiguous()"
            )


def dtypes_of(backend: backends.Backend) -> tuple:
    """Rotations take float32 everywhere."""
    return tuple(dict.fromkeys((*backend.dtypes, torch.float32)))


def check_memory(
    q, k, inv_freq, q_positions, k_positions, q_bias, k_bias, settings
) -> None:  # fmt: skip
    """What keeps native code inside the tensors, for calls of the op itself too."""
    backend = backends.get(settings.backend)
    check_tensors(q, k, backend)
    check_table(inv_freq, q.shape[-1], settings)
    sides = (("q", q, q_positions, q_bias), ("k", k, k_positions, k_bias))
    for name, tensor, positions, bias in sides:
        if positions is not None:
            check_positions(f"{name}_positions", positions, tensor)
        if bias is not None:
            check_bias(f"{name}_bias", bias, tensor)
        reason = backends.misalignment(backend, tensor)
        if reason is not None:
            raise ValueError(
                f"the {backend.name} backend cannot read {name} with shape {tuple(tensor.shape)} "
                f"and strides {tensor.stride()}: {reason}"
            )


def check_table(inv_freq, head_dim: int, settings) -> None:
    if inv_freq.dim() != 1 or not 2 <= 2 * inv_freq.shape[0] <= head_dim:
        raise ValueError(
            f"inv_freq must have shape [pairs] with 1 to {head_dim // 2} pairs, got "
            f"{tuple(inv_freq.shape)}"
        )
    if len(settings.maps) % 6 or not 1 <= settings.map_count <= MAX_MAPS:
        raise ValueError(
            f"maps must hold 6 numbers for each of 1 to {MAX_MAPS} maps, got {len(settings.maps)}"
        )


def check_backward(given, inputs, wanted, settings) -> None:
    """Gradients of one shape a side, and the input where its norm is to be differentiated."""
    for name, gradient, tensor, normalized, is_wanted in (
        ("q", given[0], inputs[0], settings.q_norm, wanted[0] or wanted[2]),
        ("k", given[1], inputs[1], settings.k_norm, wanted[1] or wanted[3]),
    ):
        if is_wanted and gradient is None:
            raise ValueError(f"the gradient of {name} is wanted and none of its results has one")
        if is_wanted and normalized and (tensor is None or tensor.shape != gradient.shape):
            raise ValueError(f"{name} is normalised: its gradient needs {name} itself")


def check_positions(name: str, positions, tensor) -> None:
    """`positions` for the rows of one tensor: [rows], or [batch, rows] and not packed."""
    check_is_tensor(name, positions)
    if positions.dtype not in POSITION_DTYPES:
        raise TypeError(
            f"{name} must be int64 (or float64, for positions between the integers), got "
            f"{positions.dtype}"
        )
    if positions.device != tensor.device:
        raise ValueError(f"{name} must be on {tensor.device} like q, got {positions.device}")
    shape, rows = tuple(positions.shape), tensor.shape[-3]
    accepted = [(rows,)]
    if tensor.dim() == 4:
        accepted += [(tensor.shape[0], rows), (1, rows)]
    if shape not in accepted:
        raise ValueError(
            f"{name} must have shape {' or '.join(str(list(s)) for s in dict.fromkeys(accepted))} "
            f"for a tensor of shape {list(tensor.shape)}, got {list(shape)}; where queries and "
            "keys have positions of their own, give a pair (q_positions, k_positions)"
        )


def check_counted(q, k, rope, q_scale, seq_len) -> None:
    """Packed sequences without positions are counted through: only their distances are right."""
    if q.shape[0] != k.shape[0]:
        raise ValueError(
            f"packed q and k of {q.shape[0]} and {k.shape[0]} rows need positions: a pair "
            "(q_positions, k_positions), each counted in its own sequence; None counts through "
            "all sequences, which is right only where each has as many queries as keys"
        )
    goes_by = "q_scale=LogN(...)" if isinstance(q_scale, LogN) else None
    if rope.depends_on_length and seq_len is None:
        goes_by = "a rope that depends on the length"
    if goes_by is not None:
        raise ValueError(
            f"packed q and k with {goes_by} need positions, counted in each sequence: None counts "
            "through all sequences"
        )


def check_bias(name: str, bias, tensor) -> None:
    check_is_tensor(name, bias)
    if tuple(bias.shape) != tuple(tensor.shape[-2:]):
        raise ValueError(
            f"{name} must have shape [heads, head_dim] = {list(tensor.shape[-2:])}, got "
            f"{list(bias.shape)}"
        )
    if not bias.is_floating_point():
        raise TypeError(f"{name} must be of a floating point dtype, got {bias.dtype}")
    if bias.device != tensor.device:
        raise ValueError(f"{name} must be on {tensor.device} like q, got {bias.device}")


def check_q_scale(q_scale) -> None:
    if q_scale is None or isinstance(q_scale, LogN):
        return
    if isinstance(q_scale, bool) or not isinstance(q_scale, (int, float, torch.SymFloat, Real)):
        raise TypeError(f"q_scale must be None, a number or a longattn.LogN, got {q_scale!r}")
    if not abs(q_scale) < math.inf:
        raise ValueError(f"q_scale must be finite, got {q_scale}")


def check_maps(maps) -> None:
    if not isinstance(maps, (list, tuple)) or not 1 <= len(maps) <= MAX_MAPS:
        raise ValueError(
            f"maps must be a list of 1 to {MAX_MAPS} pairs of PositionMap, got {maps!r}"
        )
    for pair in maps:
        is_pair = isinstance(pair, tuple) and len(pair) == 2
        if not is_pair or not all(isinstance(side, PositionMap) for side in pair):
            raise TypeError(
                f"each of maps must be a pair (q_map, k_map) of PositionMap, got {pair!r}"
            )
        for side in pair:
            # Comparisons, which torch.compile can trace for numbers that it does not know.
            if not all(-math.inf < number < math.inf for number in (side.scale, side.offset)):
                raise ValueError(f"scale and offset of a PositionMap must be finite, got {side}")


def check_in_place(q, k, inplace, key_norm) -> None:
    check_flag("inplace", inplace)
    if not inplace:
        return
    if torch._C._are_functorch_transforms_active():
        raise NotImplementedError(
            "inplace=True cannot be transformed by torch.func (grad, vmap, ...): use inplace=False"
        )
    for name, tensor in (("q", q), ("k", k)):
        if any(n > 1 and stride == 0 for n, stride in zip(tensor.shape, tensor.stride())):
            raise ValueError(
                f"inplace=True cannot change {name}, whose elements share memory (strides "
                f"{tensor.stride()}): use inplace=False, or {name}.contiguous()"
            )
    if has_values(q) and has_values(k) and shares_elements(q, k):
        raise ValueError(
            "inplace=True needs a q and a k of their own, got two that share elements: these would "
            "be rotated twice"
        )
    differentiates = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    for name, tensor in (("q", q), ("k", k)):
        if differentiates and tensor.requires_grad and tensor.is_leaf:
            raise ValueError(
                f"inplace=True cannot change {name}, a leaf that requires grad: use inplace=False, "
                "or torch.no_grad()"
            )
    if differentiates and key_norm is not False:
        raise ValueError(
            f"inplace=True with key_norm={key_norm!r} has no gradient, for which the raw vectors "
            "would be needed: use inplace=False, or torch.no_grad()"
        )


def check_seq_len(seq_len):
    """-> seq_len, an integer of NumPy as Python's."""
    if seq_len is None:
        return None
    if not isinstance(seq_len, (int, torch.SymInt, Integral)) or isinstance(seq_len, bool):
        raise TypeError(f"seq_len must be an integer of at least 1 or None, got {seq_len!r}")
    if seq_len < 1:
        raise ValueError(f"seq_len must be an integer of at least 1 or None, got {seq_len}")
    return plain_integer(seq_len)
