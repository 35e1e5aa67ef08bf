# SPDX-License-Identifier: BSD-3-Clause
"""Kernels for the Autograd key that torch.func's transforms may nest.

There the dispatcher runs such a kernel once a level, on tensors of that level; so a Function here
is one level of the whole, and what it calls below may be the next. Forward mode and second
derivatives raise, on every level: torch would else hand on zeros.
"""

from __future__ import annotations

import torch
from torch._functorch.autograd_function import enable_single_level_autograd_function
from torch.autograd import forward_ad

from longattn.flat import flatten, lists_first, regroup

_transformed = torch._C._are_functorch_transforms_active


def is_differentiated(*tensors) -> bool:
    """Whether this level differentiates what is computed from these tensors (or None)."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def apply(function, *arguments):
    """function.apply. Under a transform it would ask for a setup_context, to go through all levels
    by itself."""
    if not _transformed():
        return function.apply(*arguments)
    with enable_single_level_autograd_function():
        return super(torch.autograd.Function, function).apply(*arguments)


def run_below(op, *arguments):
    """The op without its Autograd kernel, in the forward of a Function. That has switched off what
    the next level may have to do."""
    with torch._C._AutoDispatchBelowAutograd():
        if not _transformed():
            return op(*arguments)
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
            return op(*arguments)


def run_backward(backward_op, *arguments):
    """The backward op, in the backward of a Function: past its Autograd kernel where that would
    find nothing to do."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0 or _transformed():
        return backward_op(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return backward_op(*arguments)


def refuse_forward_mode(ctx, *tangents):
    """The jvp of a Function that has none."""
    raise NotImplementedError(
        "longattn's attention has no forward-mode derivatives (jvp, jacfwd, dual tensors): use grad, "
        "vjp or jacrev, or longattn.reference"
    )


def make_differentiable_once(backward_op):
    """The kernel for the Autograd key of a backward op: it raises where gradients are
    differentiated themselves.

    torch's once_differentiable would do so only if the incoming gradient required one: the second
    derivative of a loss that is linear in out would silently be 0."""

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, counts, *flat):
            return flatten(run_below(backward_op, *regroup(flat, counts)))[0]

        @staticmethod
        def backward(ctx, *gradients):
            raise NotImplementedError(
                "longattn's attention has no second derivatives: it was differentiated twice; use "
                "longattn.reference for that, or leave create_graph at False"
            )

        jvp = staticmethod(refuse_forward_mode)

    def kernel(*arguments):
        flat, counts = flatten(arguments)
        if is_differentiated(*(a for a in flat if isinstance(a, torch.Tensor))):
            return regroup(apply(Backward, counts, *flat), lists_first(counts))
        with torch._C._AutoDispatchBelowAutograd():
            return backward_op(*arguments)

    return kernel
