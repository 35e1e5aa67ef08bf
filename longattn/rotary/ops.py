# SPDX-License-Identifier: BSD-3-Clause
"""The torch operators of the rotary pre-pass: schema, fake implementation, autocast and kernels."""

from __future__ import annotations

import torch

from longattn import transforms
from longattn.rotary import engine
from longattn.rotary.autograd import WHAT, make_autograd, make_in_place_autograd

library = torch.library.Library("longattn", "FRAGMENT")

_TABLES = "Tensor inv_freq, Tensor? log_growth, Tensor? q_positions, Tensor? k_positions"
_SETTINGS = (
    "float[] maps, SymInt q_start, SymInt k_start, float attention_factor, float xpos_centre, "
    "bool interleaved, bool q_norm, bool k_norm, float q_scale, float log_length, "
    "bool at_least_one, str backend"
)
_REST = f"{_TABLES}, Tensor? q_bias, Tensor? k_bias, "
library.define(f"rotate(Tensor q, Tensor k, {_REST}{_SETTINGS}) -> Tensor[]")
library.define(f"rotate_(Tensor(a!) q, Tensor(b!) k, {_REST}{_SETTINGS}) -> ()")
library.define(
    f"rotate_backward(Tensor?[] gradients, Tensor? q, Tensor? k, {_REST}bool[] wanted, {_SETTINGS})"
    " -> Tensor[]"
)

rotate = torch.ops.longattn.rotate.default
rotate_ = torch.ops.longattn.rotate_.default
rotate_backward = torch.ops.longattn.rotate_backward.default

for device in ("CPU", "CUDA"):
    library.impl("rotate", engine.forward, device)
    library.impl("rotate_", engine.forward_in_place, device)
    library.impl("rotate_backward", engine.backward, device)


@torch.library.register_fake("longattn::rotate")
def _rotate_fake(q, k, inv_freq, log_growth, q_positions, k_positions, q_bias, k_bias, *settings):
    count = engine.Settings(*settings).map_count
    return [torch.empty_like(tensor) for _ in range(count) for tensor in (q, k)]


@torch.library.register_fake("longattn::rotate_")
def _rotate_in_place_fake(*arguments):
    return None


@torch.library.register_fake("longattn::rotate_backward")
def _rotate_backward_fake(gradients, q, k, *rest):
    wanted = rest[6]
    return engine.empty_results(gradients, wanted)


library.impl("rotate", make_autograd(rotate, rotate_backward), "Autograd")
library.impl("rotate_", make_in_place_autograd(rotate_, rotate_backward), "Autograd")
as_list = transforms.make_differentiable_once(rotate_backward, WHAT, lambda flat, _: list(flat))
library.impl("rotate_backward", as_list, "Autograd")
for op in (rotate, rotate_backward):
    library.impl(op, transforms.make_vmap_loop(op), "FuncTorchBatched")


def _count_versions(keyset, q, k, *rest):
    """Native code writes behind autograd's back: what was saved of q and k is stale now."""
    torch.autograd.graph.increment_version((q, k))
    with torch._C._AutoDispatchBelowADInplaceOrView():
        return rotate_.redispatch(keyset & torch._C._after_ADInplaceOrView_keyset, q, k, *rest)


library.impl("rotate_", _count_versions, "ADInplaceOrView", with_keyset=True)
