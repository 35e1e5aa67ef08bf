# SPDX-License-Identifier: BSD-3-Clause
"""Kernels for the Autograd key that torch.func's transforms may nest.

There the dispatcher runs such a kernel once a level, on tensors of that level; so a Function here
is one level of the whole, and what it calls below may be the next. Forward mode and second
derivatives raise, on every level: torch would else hand on zeros.
"""

from __future__ import annotations

import torch
from torch._functorch.autograd_function import (
    custom_function_call_vmap_helper,
    enable_single_level_autograd_function,
)
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

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


def refuse_transforms(what: str) -> None:
    """For what has no rules for torch.func: tensors of its transforms have no memory to read."""
    if _transformed():
        raise NotImplementedError(
            f"{what} cannot be transformed by torch.func (grad, vmap, jacrev): use autograd"
        )


def refuse_forward_mode(what: str):
    """The jvp of a Function of `what` that has none."""

    def jvp(ctx, *tangents):
        raise NotImplementedError(
            f"longattn's {what} has no forward-mode derivatives (jvp, jacfwd, dual tensors): use "
            "grad, vjp or jacrev, or longattn.reference"
        )

    return staticmethod(jvp)


def _lists_first(flat, counts):
    return regroup(flat, lists_first(counts))


def make_differentiable_once(backward_op, what: str, shaped=_lists_first):
    """The kernel for the Autograd key of a backward op: it raises where gradients are
    differentiated themselves. shaped(flat, counts): the op's results, of those one by one.

    torch's once_differentiable would do so only if the incoming gradient required one: the second
    derivative of a loss that is linear in out would silently be 0."""

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, counts, *flat):
            return flatten(run_below(backward_op, *regroup(flat, counts)))[0]

        @staticmethod
        def backward(ctx, *gradients):
            raise NotImplementedError(
                f"longattn's {what} has no second derivatives: it was differentiated twice; use "
                "longattn.reference for that, or leave create_graph at False"
            )

        jvp = refuse_forward_mode(what)

    def kernel(*arguments):
        flat, counts = flatten(arguments)
        if is_differentiated(*(a for a in flat if isinstance(a, torch.Tensor))):
            return shaped(apply(Backward, counts, *flat), counts)
        with torch._C._AutoDispatchBelowAutograd():
            return backward_op(*arguments)

    return kernel


def make_vmap_loop(op):
    """The kernel for the FuncTorchBatched key of an op with lists of tensors, for which torch has
    no loop of its own: one call for each entry of the batch."""

    def rule(info, in_dims, *arguments):
        leaves, spec = pytree.tree_flatten(arguments)
        dims = pytree.tree_leaves(in_dims)
        results = []
        for entry in range(info.batch_size):
            own = [x if dim is None else x.select(dim, entry) for x, dim in zip(leaves, dims)]
            results.append(op(*pytree.tree_unflatten(own, spec)))
        stacked = pytree.tree_map(lambda *entries: torch.stack(entries), *results)
        return stacked, pytree.tree_map(lambda _: 0, stacked)

    def kernel(*arguments):
        interpreter = retrieve_current_functorch_interpreter()
        return custom_function_call_vmap_helper(interpreter, rule, op, *arguments)

    return kernel
