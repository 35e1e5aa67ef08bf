# SPDX-License-Identifier: BSD-3-Clause
"""The torch operators: schema, fake implementation, autocast and kernels.

Defined with `torch.library.Library` and an autograd.Function on the Autograd key rather than with
custom_op: a small call with gradients costs half as much that way."""

from __future__ import annotations

import torch

from longattn import band_engine, engine, transforms
from longattn.autograd import make_autograd
from longattn.partial_engine import accumulator_dtype, lse_shape

library = torch.library.Library("longattn", "DEF")

_COMMON = "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? bias, Tensor? sink_logits, "
_SCORES = "SymInt[] bias_form, float softmax_scale, float softcap, SymInt q_start, SymInt k_start, "


def _define(name: str, inputs: str, gradients: str, settings: str) -> tuple:
    """The op, and the op of its gradient."""
    library.define(f"{name}({inputs}, {_COMMON}{settings}) -> (Tensor out, Tensor lse)")
    library.define(
        f"{name}_backward(Tensor dout, Tensor? dlse, {inputs}, Tensor out, Tensor lse, {_COMMON}"
        f"bool wants_bias, bool wants_sinks, {settings}) "
        f"-> ({gradients}, Tensor dbias, Tensor dsink_logits)"
    )
    namespace = torch.ops.longattn
    return getattr(namespace, name).default, getattr(namespace, f"{name}_backward").default


attention, attention_backward = _define(
    "attention",
    "Tensor q, Tensor k, Tensor v",
    "Tensor dq, Tensor dk, Tensor dv",
    f"int[] rules, int[] branches, {_SCORES}bool detach_weights, str backend",
)
# One softmax over several bands of keys: in each one, queries and keys are others.
attention_bands, attention_bands_backward = _define(
    "attention_bands",
    "Tensor[] q, Tensor[] k, Tensor v",
    "Tensor[] dq, Tensor[] dk, Tensor dv",
    f"int[] rules, {_SCORES}str backend",
)

for device in ("CPU", "CUDA"):
    library.impl("attention", engine.forward, device)
    library.impl("attention_backward", engine.backward, device)
    library.impl("attention_bands", band_engine.forward, device)
    library.impl("attention_bands_backward", band_engine.backward, device)


@torch.library.register_fake("longattn::attention")
def _attention_fake(q, k, v, *common):
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    lse = q.new_empty(lse_shape(q), dtype=accumulator_dtype(q.dtype))
    return out, lse


@torch.library.register_fake("longattn::attention_bands")
def _attention_bands_fake(q, k, v, *common):
    return _attention_fake(q[0], k[0], v)


@torch.library.register_fake("longattn::attention_backward")
def _attention_backward_fake(
    dout, dlse, q, k, v, out, lse, cu_q, cu_k, bias, sink_logits, wants_bias, wants_sinks, *settings
):
    wanted = (bias if wants_bias else None, sink_logits if wants_sinks else None)
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v)) + tuple(
        v.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in wanted
    )


@torch.library.register_fake("longattn::attention_bands_backward")
def _attention_bands_backward_fake(dout, dlse, q, k, v, *rest):
    of_inputs = ([tensor.new_empty(tensor.shape) for tensor in side] for side in (q, k))
    return *of_inputs, *_attention_backward_fake(dout, dlse, q[0], k[0], v, *rest)[2:]


def _autocast(op, device_type: str):
    """Casts q, k and v to the autocast dtype, as torch does for scaled_dot_product_attention."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device_type.upper()}"))

    def cast(tensor):
        if isinstance(tensor, list):
            return [cast(entry) for entry in tensor]
        eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
        return tensor.to(torch.get_autocast_dtype(device_type)) if eligible else tensor

    def kernel(q, k, v, *common):
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return op(cast(q), cast(k), cast(v), *common)

    return kernel


def _register(name: str, op, backward_op) -> None:
    library.impl(name, make_autograd(op, backward_op), "Autograd")
    backward_kernel = transforms.make_differentiable_once(backward_op, "attention")
    library.impl(f"{name}_backward", backward_kernel, "Autograd")
    for device_type in ("cpu", "cuda"):
        library.impl(name, _autocast(op, device_type), f"Autocast{device_type.upper()}")


_register("attention", attention, attention_backward)
_register("attention_bands", attention_bands, attention_bands_backward)
for op in (attention_bands, attention_bands_backward):  # torch loops over the others by itself
    library.impl(op, transforms.make_vmap_loop(op), "FuncTorchBatched")
