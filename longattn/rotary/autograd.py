# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of the rotary ops: one node for all maps of queries and keys."""

from __future__ import annotations

import torch

from longattn import transforms

WHAT = "apply_rotary"

def make_autograd(forward_op, backward_op):
    """The kernel for the Autograd key, made of the op and of its backward op."""

    class Rotation(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, q_bias, k_bias, tables, settings):
            results = transforms.run_below(forward_op, q, k, *tables, q_bias, k_bias, *settings)
            remember(ctx, q, k, q_bias, k_bias, tables, settings)
            return tuple(results)

        @staticmethod
        def backward(ctx, *gradients):
            return (*differentiate(ctx, backward_op, gradients), None, None)

        jvp = transforms.refuse_forward_mode(WHAT)

    def kernel(
        q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
    ):  # fmt: skip
        tables = (inv_freq, log_growth, q_positions, k_positions)
        if transforms.is_differentiated(q, k, q_bias, k_bias):
            return list(
                transforms.apply(Rotation, q, k, q_bias, k_bias, tables, settings)
            )
        with torch._C._AutoDispatchBelowAutograd():
            return forward_op(q, k, *tables, q_bias, k_bias, *settings)

    return kernel


def remember(ctx, q, k, q_bias, k_bias, tables, settings) -> None:
    """Queries and keys are kept only where the gradient of their norm needs them."""
    q_norm, k_norm = settings[6:8]
    ctx.save_for_backward(
        q if q_norm else None,
        k if k_norm else None,
        *tables,
        q_bias if q_norm else None,
        k_bias if k_norm else None,
    )
    ctx.settings = settings
    ctx.bias_dtypes = tuple(None if bias is None else bias.dtype for bias in (q_bias, k_bias))
    ctx.set_materialize_grads(False)


def differentiate(ctx, backward_op, gradients) -> tuple:
    """-> gradients of q, k, q_bias and k_bias, None where not wanted or where none arrives."""
    arrives = [any(g is not None for g in gradients[side::2]) for side in range(2)]
    wanted = [ctx.needs_input_grad[i] and arrives[i % 2] for i in range(4)]
    if not any(wanted):
        return (None,) * 4
    q, k, *tables, q_bias, k_bias = ctx.saved_tensors
    results = transforms.run_backward(
        backward_op, list(gradients), q, k, *tables, q_bias, k_bias, wanted, *ctx.settings
    )
    results = [result if wanted[i] else None for i, result in enumerate(results)]
    for side, dtype in enumerate(ctx.bias_dtypes):
        if wanted[2 + side]:
            results[2 + side] = results[2 + side].to(dtype)
    return tuple(results)


def make_in_place_autograd(forward_op, backward_op):
    """The same for the op that changes q and k. A view may only be changed by a node of its own."""

    class RotationInPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, q_bias, k_bias, tables, settings):
            changed = tuple(tensor for tensor in (q, k) if tensor is not None)
            ctx.mark_dirty(*changed)
            ctx.is_given = (q is not None, k is not None)
            q = k.new_empty(_without_rows(k)) if q is None else q
            k = q.new_empty(_without_rows(q)) if k is None else k
            with torch._C._AutoDispatchBelowAutograd():
                forward_op(q, k, *tables, q_bias, k_bias, *settings)
            remember(ctx, None, None, q_bias, k_bias, tables, settings)
            return changed if len(changed) == 2 else changed[0]

        @staticmethod
        def backward(ctx, *gradients):
            given = iter(gradients)
            gradients = [next(given) if is_given else None for is_given in ctx.is_given]
            return (*differentiate(ctx, backward_op, gradients), None, None)

        jvp = transforms.refuse_forward_mode(WHAT)

    def kernel(
        q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
    ):  # fmt: skip
        if not transforms.is_differentiated(q, k, q_bias, k_bias):
            with torch._C._AutoDispatchBelowAutograd():
                forward_op(
                    q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
                )
        elif q._is_view() or k._is_view():
            RotationInPlace.apply(
                q, None, q_bias, None, (inv_freq, log_growth, q_positions, None), settings
            )
            RotationInPlace.apply(
                None, k, None, k_bias, (inv_freq, log_growth, None, k_positions), settings
            )
        else:
            tables = (inv_freq, log_growth, q_positions, k_positions)
            RotationInPlace.apply(q, k, q_bias, k_bias, tables, settings)

    return kernel


def _without_rows(tensor) -> tuple:
    return (*tensor.shape[:-3], 0, *tensor.shape[-2:])
