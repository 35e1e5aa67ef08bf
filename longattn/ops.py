# SPDX-License-Identifier: BSD-3-Clause
"""The torch operators: schema, fake implementation, autocast and kernels.

Defined with `torch.library.Library` and an autograd.Function on the Autograd key rather than with
custom_op: a small call with gradients costs half as much that way."""

from __future__ import annotations

import torch

from longattn import engine, transforms
from longattn.autograd import make_autograd
from longattn.partial_engine import accumulator_dtype, lse_shape

library = torch.library.Library("longattn", "DEF")

_TENSORS = (
    "Tensor q, Tensor k, Tensor v, {results}Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, "
    "Tensor? bias, Tensor? sink_logits, "
)
_SETTINGS = (
    "int[] rules, int[] branches, SymInt[] bias_form, float softmax_scale, float softcap, "
    "SymInt q_start, SymInt k_start, bool detach_weights, str backend"
)
library.define(f"attention({_TENSORS.format(results='')}{_SETTINGS}) -> (Tensor out, Tensor lse)")
library.define(
    f"attention_backward(Tensor dout, Tensor? dlse, "
    f"{_TENSORS.format(results='Tensor out, Tensor lse, ')}"
    f"bool wants_bias, bool wants_sinks, {_SETTINGS}) "
    "-> (Tensor dq, Tensor dk, Tensor dv, Tensor dbias, Tensor dsink_logits)"
)

attention = torch.ops.longattn.attention.default
attention_backward = torch.ops.longattn.attention_backward.default

for device in ("CPU", "CUDA"):
    library.impl("attention", engine.forward, device)
    library.impl("attention_backward", engine.backward, device)


@torch.library.register_fake("longattn::attention")
def _attention_fake(q, k, v, *common):
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    lse = q.new_empty(lse_shape(q), dtype=accumulator_dtype(q.dtype))
    return out, lse


@torch.library.register_fake("longattn::attention_backward")
def _attention_backward_fake(
    dout, dlse, q, k, v, out, lse, cu_q, cu_k, bias, sink_logits, wants_bias, wants_sinks, *settings
):
    wanted = (bias if wants_bias else None, sink_logits if wants_sinks else None)
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v)) + tuple(
        q.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in wanted
    )


library.impl("attention", make_autograd(attention, attention_backward), "Autograd")
library.impl(
    "attention_backward", transforms.make_differentiable_once(attention_backward), "Autograd"
)


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
