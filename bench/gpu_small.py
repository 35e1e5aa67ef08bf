# SPDX-License-Identifier: BSD-3-Clause
"""Few launches for tools that watch every instruction: `python -m bench.gpu_small [--profile]`.

Without --profile: every kernel variant, on small and crooked problems, as compute-sanitizer wants
them. With it: dense causal attention of 8192 rows, for a profiler."""

from __future__ import annotations

import argparse
from typing import Callable, NamedTuple

import torch

import longattn

DTYPES = (torch.bfloat16, torch.float16)
# (head_dim, value_dim): both tile sizes, filled and not.
DIMS = ((64, 64), (128, 128), (40, 104), (72, 8))
BORDERS = (0, 3, 3, 150, 201)  # of packed sequences, one of them empty


class Call(NamedTuple):
    name: str
    function: Callable
    q_shape: tuple  # without head_dim
    k_shape: tuple
    keywords: dict = {}  # numbers, or functions of a device that make tensors and biases


def borders(device):
    return torch.tensor(BORDERS, dtype=torch.int32, device=device)


def slopes(device):
    return torch.tensor([0.3, 0.1], device=device, requires_grad=True)


def table(device):
    values = torch.linspace(-1, 1, 2 * 90, device=device).reshape(2, 90)
    return longattn.RelativeBias(values.requires_grad_())


GENERAL = {"bias": lambda device: longattn.Alibi(slopes(device)), "sink_logits": slopes}
PACKED = {"cu_seqlens_q": borders, "cu_seqlens_k": borders}


def attend(mask) -> Callable:
    return lambda q, k, v, **keywords: longattn.attention(q, k, v, mask, **keywords)


def dilate(q, k, v, **keywords):
    return longattn.dilated_attention(q, k, v, (64, 100), (1, 3), **keywords)


def rerope(q, k, v, **keywords):
    rope = longattn.RotaryEmbedding(q.shape[-1])
    return longattn.rerope_attention(q, k, v, rope, window=50, **keywords)


def on_a_ring(q, k, v, **keywords):
    """Rows of a shard are two positions apart."""
    plan = longattn.ring.plan(q.shape[1], longattn.ring.VirtualRing(2), "striped")
    shards = (plan.shard(x) for x in (q, k, v))
    return plan.unshard(plan.attention(*shards, longattn.Window(70, sink_tokens=3), **keywords))


SQUARE, GROUPED, SEQUENCES = (1, 201, 2), (1, 201, 1), (201, 2)
MASKS = (
    longattn.Window((50, 9), sink_tokens=(3, 70)),
    longattn.Groups(60, shift=(0, 30)),
    longattn.Prefix(90),
    longattn.Band(70, 30) & longattn.Groups(128),
)
CALLS = [
    *(Call(str(mask), attend(mask), SQUARE, GROUPED) for mask in MASKS),
    Call("few queries", attend(longattn.Causal()), (2, 5, 2), (2, 201, 1)),
    Call("rows that see nothing", attend(longattn.Causal()), SQUARE, (1, 130, 2)),
    Call("no keys", attend(longattn.Full()), SQUARE, (1, 0, 2)),
    Call("packed", attend(longattn.Causal()), SEQUENCES, SEQUENCES, PACKED),
    Call("dilated", dilate, SQUARE, SQUARE),
    Call("dilated, detached weights", dilate, SQUARE, SQUARE, {"detach_weights": True}),
    Call("ReRoPE", rerope, SQUARE, GROUPED),
    Call("scale below 0", attend(longattn.Causal()), SQUARE, GROUPED, {"softmax_scale": -0.2}),
    Call("softcap", attend(longattn.Window(80)), SQUARE, GROUPED, {"softcap": 9.0}),
    Call("bias, sink logits", attend(longattn.Causal()), SQUARE, GROUPED, GENERAL),
    Call("all of them", attend(MASKS[0]), SQUARE, SQUARE, {**GENERAL, "softcap": 9.0}),
    Call("a table", attend(longattn.Full()), SQUARE, SQUARE, {"bias": table}),
    Call("packed, biased", attend(MASKS[0]), SEQUENCES, SEQUENCES, {**GENERAL, **PACKED}),
    Call("dilated, biased", dilate, SQUARE, SQUARE, GENERAL),
    Call("dilated, capped, detached", dilate, SQUARE, SQUARE,
         {"detach_weights": True, "softcap": 9.0}),
    Call("ring, biased", on_a_ring, SQUARE, GROUPED, GENERAL),
]  # fmt: skip
# Sinks whose queries are cut into slices.
LONG = [
    Call("slices", attend(longattn.Window(8, sink_tokens=5)), (1, 4200, 1), (1, 4200, 1)),
    Call("slices, capped", attend(longattn.Window(8, sink_tokens=5)), (1, 4200, 1), (1, 4200, 1),
         {"softcap": 9.0}),
]  # fmt: skip


def rotations(dim: int) -> list:
    """Keywords of apply_rotary, of every kind."""
    scaled = {"scaling": {"rope_type": "linear", "factor": 4.0}}
    return [
        (longattn.RotaryEmbedding(dim), {}),
        (longattn.RotaryEmbedding(dim, interleaved=True), {"key_norm": "both", "q_scale": 0.5}),
        (longattn.RotaryEmbedding(dim, **scaled), {"q_scale": longattn.LogN(64)}),
        (longattn.RotaryEmbedding.xpos(dim), {"key_norm": True}),
    ]


def nobody(what: str) -> None:
    """Hears and says nothing."""


def normal(shape, dtype, device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator).to(dtype).to(device).requires_grad_()


def check(name: str, tensors) -> None:
    finite = [bool(tensor.isfinite().all()) for tensor in tensors]
    if not all(finite):
        raise AssertionError(f"{name}: results and gradients are finite: {finite}")


def run(call: Call, head_dim, value_dim, dtype, device, backend) -> None:
    """Forward, and backward to everything that wants a gradient."""
    shapes = ((*call.q_shape, head_dim), (*call.k_shape, head_dim), (*call.k_shape, value_dim))
    qkv = [normal(shape, dtype, device) for shape in shapes]
    keywords = {
        name: value(device) if callable(value) else value for name, value in call.keywords.items()
    }
    out = call.function(*qkv, backend=backend, **keywords)
    bias = keywords.get("bias")
    learned = [keywords.get("sink_logits"), getattr(bias, "slopes", getattr(bias, "table", None))]
    leaves = [*qkv, *(leaf for leaf in learned if leaf is not None)]
    gradients = torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)
    check(call.name, [out.detach(), *(g for g in gradients if g is not None)])


def rotate(dim: int, dtype, device, backend) -> None:
    for (rope, keywords), packed in zip(rotations(dim), (False, True, False, True)):
        q, k = (normal(((201, h, dim) if packed else (2, 201, h, dim)), dtype, device)
                for h in (2, 1))  # fmt: skip
        biases = [normal((h, dim), torch.float32, device) for h in (2, 1)]
        keywords = {**keywords, "q_bias": biases[0], "k_bias": biases[1], "backend": backend}
        found = longattn.apply_rotary(q, k, rope, **keywords)
        leaves = [q, k, *biases]
        gradients = torch.autograd.grad(found, leaves, [torch.ones_like(x) for x in found])
        check(f"apply_rotary of {rope}", [x.detach() for x in found] + list(gradients))
        with torch.no_grad():
            longattn.apply_rotary(q.clone(), k.clone(), rope, inplace=True, backend=backend)


def every_variant(
    device="cuda", backend=None, dtypes=DTYPES, dims=DIMS, calls=(*CALLS, *LONG), tell=nobody
) -> None:
    """tell: hears what runs next, so that a tool that is stopped has told how far it came."""
    for dtype in dtypes:
        # The first type meets tiles that are not filled, the others share that code.
        for head_dim, value_dim in dims if dtype == dtypes[0] else dims[:2]:
            tell(f"{dtype}, head_dim {head_dim}, value_dim {value_dim}")
            for call in calls:
                if call not in LONG or (head_dim, value_dim) == dims[-1]:
                    run(call, head_dim, value_dim, dtype, device, backend)
    for dtype in (*dtypes, torch.float32):
        tell(f"{dtype}, rotations")
        for dim in (64, 40, 256):
            rotate(dim, dtype, device, backend)


def profiled() -> None:
    for head_dim in (64, 128):
        qkv = [normal((1, 8192, 8, head_dim), torch.bfloat16, "cuda") for _ in range(3)]
        out = longattn.attention(*qkv, longattn.Causal())
        torch.autograd.grad(out, qkv, torch.ones_like(out))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_small", description=__doc__)
    parser.add_argument("--profile", action="store_true")
    if parser.parse_args().profile:
        profiled()
    else:
        every_variant(tell=lambda what: print(what, flush=True))
    torch.cuda.synchronize()
    print("done, all results are finite")


if __name__ == "__main__":
    main()
