# SPDX-License-Identifier: BSD-3-Clause
"""The torch operators: schema, fake implementation, autocast and kernels.

Defined with `torch.library.Library` and an autograd.Function on the Autograd key rather than with
custom_op: a small call with gradients costs half as much that way."""

from __future__ import annotations

import torch

from longattn import engine
from longattn.autograd import make_autograd

library = torch.library.Library("longattn", "DEF")

_COMMON = (
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, int[] rules, int[] branches, "
    "float softmax_scale, SymInt q_start, SymInt k_start, bool detach_weights, str backend"
)
library.define(f"attention(Tensor q, Tensor k, Tensor v, {_COMMON}) -> (Tensor out, Tensor lse)")
library.define(
    "attention_backward(Tensor dout, Tensor? dlse, Tensor q, Tensor k, Tensor v, Tensor out, "
    f"Tensor lse, {_COMMON}) -> (Tensor dq, Tensor dk, Tensor dv)"
)

attention = torch.ops.longattn.attention.default
attention_backward = torch.ops.longattn.attention_backward.default


def _attention(q, k, v, *common):
    *arguments, _detach_weights, backend = common
    return engine.forward(q, k, v, *arguments, backend)


for device in ("CPU", "CUDA"):
    library.impl("attention", _attention, device)
    library.impl("attention_backward", engine.backward, device)


@torch.library.register_fake("longattn::attention")
def _attention_fake(q, k, v, *common):
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    lse = q.new_empty(engine.lse_shape(q), dtype=engine.accumulator_dtype(q.dtype))
    return out, lse


@torch.library.register_fake("longattn::attention_backward")
def _attention_backward_fake(dout, dlse, q, k, v, *rest):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


library.impl("attention", make_autograd(attention, attention_backward), "Autograd")


def _autocast(device_type: str):
    """Casts q, k and v to the autocast dtype, as torch does for scaled_dot_product_attention."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device_type.upper()}"))

    def cast(tensor):
        eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(torch.get_autocast_dtype(device_type)) if eligible else tensor

    def kernel(q, k, v, *common):
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return attention(cast(q), cast(k), cast(v), *common)

    return kernel


library.impl("attention", _autocast("cpu"), "AutocastCPU")
library.impl("attention", _autocast("cuda"), "AutocastCUDA")
