# SPDX-License-Identifier: BSD-3-Clause
"""The feed-forward over chunks of the sequence: activations of one chunk at a time."""

from __future__ import annotations

import contextlib
import operator
from numbers import Integral

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from longattn import checks, shared_parameters


def blockwise_feedforward(module, x: torch.Tensor, chunk_size: int) -> torch.Tensor:
    """module(x) over chunks of the sequence, each computed again in the backward pass, so that the
    activations inside of `module` take the memory of one chunk whatever the length (Blockwise
    Parallel Transformer, Liu and Abbeel 2023, arXiv 2305.19370).

    The authors' code scans over chunks of every (length / chunk_size)-th token, ours are contiguous
    and the last one may be shorter; for a module that treats every position alike that is the same.
    Random numbers (dropout) and autocast are in the backward pass what they were in the forward.

    Args:
        module: a callable, [..., chunk, width] -> [..., chunk, any width], that treats every
            position by itself: linear layers, activations, LayerNorm, dropout. Gradients of
            parameters add up in float32 if it is an nn.Module whose parameters have 16 bits.
        x: [..., length, width].
        chunk_size: positions in a chunk; larger than the length means one chunk.

    Returns:
        [..., length, any width]. Gradients reach x and all parameters, once for each parameter, as
        DistributedDataParallel wants them. An FSDP unit should be a layer around this call and not
        `module` itself, which would be gathered anew for each chunk.

    Raises:
        TypeError, ValueError, NotImplementedError: chunk_size or x are not as above, the module
        changes the length, or it holds batch normalisation that trains, which mixes positions.
    """
    _check(module, x, chunk_size)
    chunks = x.split(operator.index(chunk_size), dim=-2)  # NumPy's integers too
    if not torch.is_grad_enabled():
        return _joined([_checked(module(chunk), chunk) for chunk in chunks])
    run = shared_parameters.with_wide_gradients(module) if len(chunks) > 1 else module
    with _uncached_autocast(x.device.type):
        return _joined(
            [_checked(checkpoint(run, chunk, use_reentrant=False), chunk) for chunk in chunks]
        )


def _check(module, x, chunk_size) -> None:
    if not callable(module):
        raise TypeError(f"module must be callable, got {type(module).__name__}")
    checks.check_is_tensor("x", x)
    if x.dim() < 2:
        raise ValueError(f"x must have shape [..., length, width], got {tuple(x.shape)}")
    if not isinstance(chunk_size, Integral) or isinstance(chunk_size, bool):
        raise TypeError(f"chunk_size must be an integer, got {chunk_size!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    for part in module.modules() if isinstance(module, torch.nn.Module) else ():
        if isinstance(part, _BatchNorm) and part.training:
            raise NotImplementedError(
                f"module holds {type(part).__name__} in training mode, whose statistics depend on "
                "the chunk: use LayerNorm or RMSNorm, or call eval() on it"
            )


def _checked(out, chunk):
    if not isinstance(out, torch.Tensor) or out.shape[:-1] != chunk.shape[:-1]:
        raise ValueError(
            f"module must map [..., chunk, width] to [..., chunk, any width], it mapped "
            f"{tuple(chunk.shape)} to {_described(out)}"
        )
    return out


def _described(out):
    return tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__


def _joined(outs: list) -> torch.Tensor:
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=-2)


def _uncached_autocast(device_type: str):
    """Autocast would cast each weight once for all chunks, and their gradients would meet in the
    dtype of that copy."""
    if not torch.is_autocast_enabled(device_type):
        return contextlib.nullcontext()
    dtype = torch.get_autocast_dtype(device_type)
    return torch.autocast(device_type, dtype, cache_enabled=False)
