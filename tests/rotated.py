# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of patterns that rotate q and k themselves share: ropes, cases, one comparison."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import comparison
import inputs
import longattn
from cases import Case
from longattn import reference, rope
from longattn.masks import Causal

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

YARN = rope.YaRN(8.0, original_max_position_embeddings=64)
ROPES = {
    "plain": longattn.RotaryEmbedding(32),
    "interleaved": longattn.RotaryEmbedding(32, interleaved=True),
    "partial": longattn.RotaryEmbedding(32, rotary_dim=12),
    "YaRN": longattn.RotaryEmbedding(32, scaling=YARN),
    "partial YaRN": longattn.RotaryEmbedding(32, rotary_dim=20, scaling=YARN),
    "by length": longattn.RotaryEmbedding(
        32, scaling=rope.DynamicNTK(2.0), max_position_embeddings=50
    ),
}

CASES = [
    Case("square", Causal(), 131, batch=2, q_heads=3),
    Case("grouped heads", Causal(), 97, 173, q_heads=4, kv_heads=2, value_dim=24),
    Case("one key head", Causal(), 64, 128, q_heads=3, kv_heads=1),
    Case("decode", Causal(), 1, 301, batch=2, q_heads=4, kv_heads=2),
    Case("first row", Causal(), 1, 1),
    Case("shorter than the window", Causal(), 17),
    Case("in the middle", Causal(), 40, 190, q_start=77, q_heads=4, kv_heads=2),
    Case("all keys far", Causal(), 40, 90, q_start=300, k_start=3),
    Case("keys without sinks", Causal(), 64, 100, q_start=300, k_start=250),
    Case("rows that see nothing", Causal(), 90, 40, q_heads=4, kv_heads=2),
    Case("keys all ahead", Causal(), 30, 40, q_start=-60),
    Case("negative positions", Causal(), 70, 90, q_start=-50, k_start=-70),
    Case("no queries", Causal(), 0, 65),
    Case("no keys", Causal(), 65, 0),
    Case("given scale", Causal(), 67, 90, softmax_scale=0.3),
    Case("large logits", Causal(), 135, loudness=10.0),
    Case("packed", Causal(), q_lengths=(61, 1, 0, 131), q_heads=4, kv_heads=2),
    Case("packed, other keys", Causal(), q_lengths=(5, 64, 1, 0), kv_lengths=(70, 20, 129, 4)),
    Case("packed, short", Causal(), q_lengths=(5, 3)),
]
assert all(case.head_dim == 32 for case in CASES)


def dtype_name(dtype) -> str:
    return str(dtype).removeprefix("torch.")


def compare(name, case, dtype, rope=ROPES["plain"], slack=0.0, **own) -> comparison.Results:
    """longattn's function of that name against its twin: out, lse, gradients of raw q, k, v."""
    is_half = dtype in (torch.bfloat16, torch.float16)
    if dtype == torch.float32:
        slack += 2 * torch.finfo(dtype).eps  # vectors are rounded when they turn, there and back

    def call(module):
        function = getattr(module, name)
        return lambda q, k, v, **arguments: function(q, k, v, rope, **arguments)

    return comparison.compare(
        call(longattn),
        call(reference),
        inputs.qkv(case, dtype),
        inputs.call_arguments(case) | own,
        f"{name} {case}",
        slack,
        rounding=torch.finfo(dtype).eps if is_half else 0.0,  # rotated q and k are rounded
    )


def with_scores(name, case, own, build, *leaves, softcap=None, rope=ROPES["plain"]):
    """The same in float64 with a bias of learned parameters and sink logits, whose gradients count
    too. `build` makes the bias of `leaves`, the last of which are the sink logits."""
    results = []
    for module in (longattn, reference):
        tensors = [tensor.detach().clone().requires_grad_() for tensor in qkv64(case)]
        parameters = [leaf.clone().requires_grad_() for leaf in leaves]
        *of_bias, sinks = parameters
        out, lse = getattr(module, name)(
            *tensors, rope, bias=build(*of_bias), sink_logits=sinks, softcap=softcap,
            return_lse=True, **inputs.call_arguments(case), **own,
        )  # fmt: skip
        weight = torch.randn(out.shape, generator=inputs.generator("weight"), dtype=out.dtype)
        loss = (out * weight).sum() + lse.sin().sum()
        results.append((out, lse, *torch.autograd.grad(loss, (*tensors, *parameters))))
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def qkv64(case):
    return inputs.qkv(case, torch.float64, requires_grad=False)


class RecordedNames(TorchDispatchMode):
    """`with RecordedNames() as names`: the ops of longattn that ran."""

    def __enter__(self):
        self.names = []
        super().__enter__()
        return self.names

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "longattn":
            self.names.append(op._schema.name.removeprefix("longattn::"))
        return op(*args, **(kwargs or {}))


def visits(call) -> int:
    """Tiles that a call visits."""
    longattn.native.visited_tiles()  # forget what was counted before
    with torch.no_grad():
        call()
    return longattn.native.visited_tiles()


def tiles_of(shown) -> int:
    """How many tiles of a bool matrix [q_len, kv_len] hold a True, by cutting it up."""
    queries, keys = longattn.native.tile_sizes(torch.float32)
    return sum(
        bool(tile.any()) for rows in shown.split(queries) for tile in rows.split(keys, dim=1)
    )
