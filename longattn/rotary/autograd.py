# SPDX-License-Identifier: BSD-3-Clause
"""The gradient of the rotary ops: one node for all maps of queries and keys."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

SETTINGS = 12  # arguments of the ops after the tensors


class _NoSecondDerivative(torch.autograd.Function):
    """Hands gradients on unchanged, and raises where they are differentiated themselves, as those
    of attention do."""

    @staticmethod
    def forward(ctx, count, *gradients_and_sources):
        return tuple(gradient.view_as(gradient) for gradient in gradients_and_sources[:count])

    @staticmethod
    def backward(ctx, *gradients):
        raise NotImplementedError(
            "longattn's apply_rotary has no second derivatives: it was differentiated twice; use "
            "longattn.reference for that, or leave create_graph at False"
        )


def wants_autograd(*tensors) -> bool:
    """Under forward-mode differentiation too: there the Function raises, since it has no jvp; the
    plain path would return tangents of zero."""
    if torch._C._are_functorch_transforms_active():
        raise NotImplementedError(
            "apply_rotary, and the functions that rotate, cannot be transformed by torch.func (grad, "
            "jvp, vmap): use torch.autograd, or rotate outside of the transform"
        )
    wants_backward = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return forward_ad._current_level >= 0 or (wants_backward and torch.is_grad_enabled())


def make_autograd(forward_op, backward_op):
    """The kernel for the Autograd key, made of the op and of its backward op."""

    class Rotation(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, q_bias, k_bias, tables, settings):
            with torch._C._AutoDispatchBelowAutograd():
                results = forward_op(q, k, *tables, q_bias, k_bias, *settings)
            remember(ctx, q, k, q_bias, k_bias, tables, settings)
            return tuple(results)

        @staticmethod
        def backward(ctx, *gradients):
            return (*differentiate(ctx, backward_op, gradients), None, None)

    def kernel(
        q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
    ):  # fmt: skip
        tables = (inv_freq, log_growth, q_positions, k_positions)
        if wants_autograd(q, k, q_bias, k_bias):
            return list(Rotation.apply(q, k, q_bias, k_bias, tables, settings))
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
    differentiates_again = torch.is_grad_enabled()
    with torch.no_grad():
        results = backward_op(list(gradients), q, k, *tables, q_bias, k_bias, wanted, *ctx.settings)
    results = [result if wanted[i] else None for i, result in enumerate(results)]
    for side, dtype in enumerate(ctx.bias_dtypes):
        if wanted[2 + side]:
            results[2 + side] = results[2 + side].to(dtype)
    if differentiates_again:
        found = [result for result in results if result is not None]
        found = iter(_NoSecondDerivative.apply(len(found), *found, q, k, *gradients))
        results = [None if result is None else next(found) for result in results]
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

    def kernel(
        q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings
    ):  # fmt: skip
        if not wants_autograd(q, k, q_bias, k_bias):
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
