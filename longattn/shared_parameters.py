# SPDX-License-Identifier: BSD-3-Clause
"""Parameters that one graph uses many times: their gradients add up in float32.

Autograd adds the gradients of all uses in the parameter's dtype. Over hundreds of chunks in 16 bits
the sum stops growing long before it is complete."""

from __future__ import annotations

import torch
from torch.func import functional_call

HALF = (torch.float16, torch.bfloat16)


class _Sum(torch.autograd.Function):
    """Stands for a parameter where gradients meet: float32, without memory of its own."""

    @staticmethod
    def forward(ctx, parameter):
        ctx.dtype = parameter.dtype
        return torch.zeros((), device=parameter.device).expand(parameter.shape)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(ctx.dtype)


class _Use(torch.autograd.Function):
    """The parameter's values, whose gradient goes to its sum."""

    @staticmethod
    def forward(ctx, total, values):
        return values.view_as(values)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.float(), None


def with_wide_gradients(module):
    """A function of x that computes module(x); to be called any number of times in one graph."""
    if not isinstance(module, torch.nn.Module):
        return module
    shared = {
        name: (_Sum.apply(parameter), parameter.detach())
        for name, parameter in module.named_parameters()
        if parameter.dtype in HALF and parameter.requires_grad and _is_plain(parameter)
    }
    if not shared:
        return module

    def run(x):
        uses = {name: _Use.apply(total, values) for name, (total, values) in shared.items()}
        return functional_call(module, uses, (x,))

    return run


def _is_plain(parameter) -> bool:
    """False for a DTensor: an FSDP unit that is called again and again gathers by itself."""
    return type(parameter.data) is torch.Tensor
