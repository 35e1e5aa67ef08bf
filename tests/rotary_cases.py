# SPDX-License-Identifier: BSD-3-Clause
"""Rotations as frozen values, and one comparison of all of them with the reference."""

import dataclasses
from typing import Any, Optional

import torch

import closeness
import inputs
from longattn import LogN, RotaryEmbedding, reference
from longattn.reference import rotary as reference_rotary
from longattn.rope import DynamicNTK, YaRN
from longattn.rotary import PositionMap, rotate

FAR = 2**40 + 12345


@dataclasses.dataclass(frozen=True)
class Rotation:
    """One call of `apply_rotary`, or of `rotate` if there are maps."""

    name: str
    q_len: int = 37
    kv_len: Optional[int] = None  # None: q_len
    batch: int = 1
    q_heads: int = 2
    kv_heads: int = 1
    head_dim: int = 16
    rotary_dim: Optional[int] = None
    interleaved: bool = False
    packed: bool = False
    positions: str = "none"  # see `positions_of`
    biases: str = ""  # "q", "k" or "qk"
    key_norm: Any = False
    q_scale: Any = None
    maps: tuple = ()
    scaling: Any = None
    xpos: bool = False
    seq_len: Optional[int] = None
    transposed: bool = False  # heads first in memory
    loudness: float = 1.0

    def __str__(self):
        return self.name

    @property
    def rope(self) -> RotaryEmbedding:
        if self.xpos:
            return RotaryEmbedding.xpos(self.head_dim, interleaved=self.interleaved)
        return RotaryEmbedding(
            self.head_dim,
            rotary_dim=self.rotary_dim,
            interleaved=self.interleaved,
            scaling=self.scaling,
            max_position_embeddings=32,
        )

    @property
    def q_shape(self) -> tuple:
        batch = () if self.packed else (self.batch,)
        return (*batch, self.q_len, self.q_heads, self.head_dim)

    @property
    def k_shape(self) -> tuple:
        batch = () if self.packed else (self.batch,)
        kv_len = self.q_len if self.kv_len is None else self.kv_len
        return (*batch, kv_len, self.kv_heads, self.head_dim)


def positions_of(case: Rotation):
    """By its name: what `positions` may be."""
    q_len, kv_len = case.q_shape[-3], case.k_shape[-3]
    if case.positions == "none":
        return None
    if case.positions == "shared":
        return torch.arange(q_len) * 3 + 5
    if case.positions == "far":
        return torch.arange(q_len) * 7 + FAR
    if case.positions == "farthest":
        return 2**61 - torch.arange(q_len)
    if case.positions == "negative":
        return torch.arange(q_len) - 20
    if case.positions == "one row":
        return torch.arange(q_len)[None] + 100
    if case.positions == "batch":
        return torch.arange(case.batch * q_len).reshape(case.batch, q_len) ** 2
    if case.positions == "strided":
        return torch.arange(case.batch * q_len * 3).reshape(q_len, case.batch, 3)[..., 1].T
    if case.positions == "pair":
        return torch.arange(q_len) + FAR, torch.arange(kv_len) + FAR - 40
    if case.positions == "pair of rows":
        q = torch.arange(case.batch * q_len).reshape(case.batch, q_len)
        return q + 9, torch.arange(kv_len)[None]
    if case.positions == "sequences":  # two packed ones
        return torch.cat([torch.arange(q_len - 5), torch.arange(5)])
    if case.positions == "between":
        return torch.linspace(0, 1000, q_len, dtype=torch.float64)
    raise ValueError(case.positions)


NEAR = (PositionMap(), PositionMap())
FLAT = (PositionMap(0.0, 8.0), PositionMap(0.0))  # ReRoPE's outer band
LEAKY = (PositionMap(1 / 16, 7.5), PositionMap(1 / 16))
FLOORED = (PositionMap(1 / 7, 12.0, True), PositionMap(1 / 7, 0.0, True))  # Self-Extend's
STRETCHED = (PositionMap(2.5, -3.0), PositionMap(-1.0, 2**41))

CASES = [
    Rotation("halves"),
    Rotation("neighbours", interleaved=True),
    Rotation("head_dim 64", q_len=67, head_dim=64, q_heads=4, kv_heads=2),
    Rotation("head_dim 128", q_len=33, head_dim=128, batch=2),
    Rotation("head_dim 128, neighbours", q_len=33, head_dim=128, interleaved=True),
    Rotation("head_dim 256", q_len=19, head_dim=256),
    Rotation("partial", head_dim=80, rotary_dim=32, scaling=YaRN(8.0)),
    Rotation("partial, neighbours", head_dim=64, rotary_dim=24, interleaved=True),
    Rotation("partial, uneven", head_dim=64, rotary_dim=20, positions="far"),
    Rotation("partial, all but two", head_dim=40, rotary_dim=38, key_norm="both"),
    Rotation("heads first", q_len=71, head_dim=32, q_heads=3, kv_heads=3, transposed=True),
    Rotation("many heads", q_len=5, q_heads=40, kv_heads=8, head_dim=8),
    Rotation("long", q_len=611, q_heads=1, head_dim=8, biases="qk"),
    Rotation("one row", q_len=1),
    Rotation("one query", q_len=1, kv_len=29, batch=2),
    Rotation("few queries", q_len=5, kv_len=29, biases="k"),
    Rotation("more queries", q_len=29, kv_len=3, q_scale=LogN(8)),
    Rotation("no queries", q_len=0, kv_len=7),
    Rotation("no keys", q_len=7, kv_len=0, biases="qk"),
    Rotation("nothing", q_len=0),
    Rotation("no batch", batch=0),
    Rotation("shared", positions="shared", batch=2),
    Rotation("far", positions="far"),
    Rotation("far, neighbours", positions="far", interleaved=True, head_dim=64),
    Rotation("negative", positions="negative", q_scale=LogN(4, post_hoc=False)),
    Rotation("one row of positions", positions="one row", batch=3),
    Rotation("rows of positions", positions="batch", batch=3),
    Rotation("strided positions", positions="strided", batch=3),
    Rotation("pair of positions", positions="pair", q_len=11, kv_len=31),
    Rotation("pair of rows", positions="pair of rows", q_len=11, kv_len=31, batch=2),
    Rotation("between the integers", positions="between"),
    Rotation("packed", packed=True, positions="sequences"),
    Rotation("packed, counted", packed=True, q_heads=4),
    Rotation("bias of queries", biases="q", batch=2),
    Rotation("bias of keys", biases="k", batch=2, interleaved=True),
    Rotation("biases", biases="qk", batch=3, q_len=101, head_dim=24),
    Rotation("key norm", key_norm=True, head_dim=64),
    Rotation("query norm", key_norm="query", batch=2),
    Rotation("both norms", key_norm="both", interleaved=True),
    Rotation("both norms and biases", key_norm="both", biases="qk", q_len=67),
    Rotation("norm before a factor", key_norm="both", scaling=YaRN(16.0), biases="k"),
    Rotation("scale", q_scale=0.37),
    Rotation("logn", q_scale=LogN(16), positions="shared"),
    Rotation("logn of trained models", q_scale=LogN(16, post_hoc=False), biases="q"),
    Rotation("everything", batch=2, head_dim=48, rotary_dim=32, positions="batch", biases="qk",
             key_norm="both", q_scale=LogN(16), scaling=YaRN(4.0), q_heads=6, kv_heads=2),
    Rotation("grows with length", scaling=DynamicNTK(2.0), positions="shared"),
    Rotation("grows with a given length", scaling=DynamicNTK(2.0), seq_len=500),
    Rotation("xpos", xpos=True, interleaved=True, q_len=150),
    Rotation("xpos in halves", xpos=True, positions="shared", key_norm=True),
    Rotation("xpos far away", xpos=True, positions="far", q_len=90),
    Rotation("large numbers", loudness=300.0, key_norm=True, biases="qk"),
    Rotation("two bands", maps=(NEAR, FLAT), head_dim=64),
    Rotation("leaky bands", maps=(NEAR, LEAKY), positions="far", interleaved=True),
    Rotation("floored bands", maps=(NEAR, FLOORED), q_len=120, biases="qk", key_norm=True),
    Rotation("four maps", maps=(NEAR, FLAT, FLOORED, STRETCHED), batch=2, q_scale=LogN(9)),
    Rotation("one flat map", maps=(FLAT,), biases="q"),
    Rotation("xpos in bands", maps=(NEAR, FLAT), xpos=True),
]  # fmt: skip

# float64 knows positions to 2^-44 of a turn there.
FARTHEST = Rotation("farthest", positions="farthest", head_dim=32)

COMPACT = [
    case
    for case in CASES
    if case.name
    in {
        "head_dim 64", "neighbours", "partial, all but two", "heads first", "far", "few queries",
        "everything", "xpos", "floored bands", "between the integers", "long",
    }  # fmt: skip
]


@dataclasses.dataclass
class Results:
    outputs: tuple
    gradients: tuple  # of q, k, and of the biases that there are


def arguments_of(case: Rotation, dtype) -> dict:
    """Keywords but for the biases."""
    return dict(
        positions=positions_of(case), key_norm=case.key_norm, q_scale=case.q_scale,
        seq_len=case.seq_len,
    )  # fmt: skip


def tensors_of(case: Rotation, dtype, grain=1) -> dict:
    """q, k and the biases: hostile views that want gradients. Biases of 16-bit calls are float32,
    as parameters are."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    order = dict(transposed=case.transposed, grain=grain)
    tensors = {
        "q": inputs.random(case.q_shape, dtype, case.name, "q", scale=case.loudness, **order),
        "k": inputs.random(case.k_shape, dtype, case.name, "k", scale=case.loudness, **order),
    }
    for side in case.biases:
        shape = tensors[side].shape[-2:]
        tensors[f"{side}_bias"] = inputs.random(shape, wide, case.name, f"{side} bias")
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def call(case: Rotation, tensors: dict, dtype, reference_twin: bool, **keywords) -> tuple:
    """All results of the call, in one tuple."""
    q, k, *_ = tensors.values()
    biases = {name: tensor for name, tensor in tensors.items() if name.endswith("bias")}
    arguments = {**arguments_of(case, dtype), **biases, **keywords}
    if case.maps:
        function = reference_rotary.rotate if reference_twin else rotate
        positions = arguments.pop("positions")
        pairs = function(q, k, case.rope, positions, case.maps, **arguments)
        return tuple(result for pair in pairs for result in pair)
    import longattn

    function = reference.apply_rotary if reference_twin else longattn.apply_rotary
    return function(q, k, case.rope, **arguments)


def results_of(case, tensors, dtype, reference_twin, given, **keywords) -> Results:
    outputs = call(case, tensors, dtype, reference_twin, **keywords)
    given = [gradient.to(output.dtype) for gradient, output in zip(given, outputs)]
    gradients = torch.autograd.grad(outputs, list(tensors.values()), given)
    return Results(tuple(output.detach() for output in outputs), gradients)


def output_gradients(case: Rotation, dtype, grain=1) -> list:
    shapes = (case.q_shape, case.k_shape) * max(1, len(case.maps))
    return [
        inputs.random(shape, dtype, case.name, "given", i, transposed=i % 3 == 2, grain=grain)
        for i, shape in enumerate(shapes)
    ]


def plain(tensor, dtype) -> torch.Tensor:
    """A contiguous leaf with the same numbers."""
    wide = dtype if tensor.dtype not in (torch.float16, torch.bfloat16) else dtype
    return tensor.detach().to(wide).clone(memory_format=torch.contiguous_format).requires_grad_()


def compare(case: Rotation, dtype, *, grain=1, slack=0.0, **keywords) -> None:
    """Results and gradients by the rule of closeness."""
    tensors = tensors_of(case, dtype, grain)
    given = output_gradients(case, dtype, grain)
    ours = results_of(case, tensors, dtype, False, given, **keywords)

    def twin(dtype):
        leaves = {name: plain(tensor, dtype) for name, tensor in tensors.items()}
        return results_of(case, leaves, dtype, True, [plain(g, dtype) for g in given])

    exact, eager = twin(torch.float64), twin(dtype)
    slack += 2**-23 if dtype == torch.float32 else 0.0
    for i, output in enumerate(ours.outputs):
        assert output.dtype == dtype, f"result {i} is {output.dtype}"
        closeness.assert_close(output, [eager.outputs[i]], exact.outputs[i], f"result {i}", slack)
    for i, name in enumerate(tensors):
        assert ours.gradients[i].dtype == tensors[name].dtype, name
        closeness.assert_close(
            ours.gradients[i], [eager.gradients[i]], exact.gradients[i], f"d{name}", slack
        )
