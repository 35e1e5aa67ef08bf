# SPDX-License-Identifier: BSD-3-Clause
"""What is said to be supported: subjects, features, and one small check for each pair."""

import dataclasses
from typing import Callable

import torch

import longattn
from longattn import Band, Causal, Full, Groups, Prefix, Window, reference, ring

ROWS, HEADS, HEAD_DIM = 45, 4, 16
BORDERS = (0, 17, 17, 45)
ROPE = longattn.RotaryEmbedding(HEAD_DIM)
XPOS = longattn.RotaryEmbedding.xpos(HEAD_DIM)
NOT_RING = frozenset({"ring"})


def no_keywords(tensors) -> dict:
    return {}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A function, its arguments behind q, k and v, and what it refuses by name."""

    name: str
    arguments: tuple = ()
    keywords: Callable = no_keywords  # of the learned tensors
    learned: tuple = ()  # their shapes
    function: str = "attention"
    refuses: frozenset = frozenset()

    def __str__(self):
        return self.name

    def call(self, module, q, k, v, *learned, **more):
        keywords = self.keywords(learned)
        return getattr(module, self.function)(q, k, v, *self.arguments, **keywords, **more)


def _masked(text: str, mask) -> Subject:
    return Subject(f"`{text}`", (mask,))


SUBJECTS = (
    _masked("Full()", Full()),
    _masked("Causal()", Causal()),
    _masked("Window(9)", Window(9)),
    _masked("Window(9, sink_tokens=2)", Window(9, sink_tokens=2)),
    Subject(
        "sizes of each head's own", (Window((3, 9, 20, 1), sink_tokens=(0, 2, 1, 0)),)
    ),
    _masked("Band(8, 3, sink_tokens=2)", Band(8, 3, sink_tokens=2)),
    _masked("Groups(12)", Groups(12)),
    _masked("Groups(12, shift=6)", Groups(12, shift=6)),
    _masked("Groups(12, back=1)", Groups(12, back=1)),
    _masked("Prefix(11)", Prefix(11)),
    _masked("Window(9) & Groups(12)", Window(9) & Groups(12)),
    Subject("ALiBi", (Causal(),), lambda learned: {"bias": longattn.Alibi()}),
    Subject(
        "ALiBi, learned slopes",
        (Causal(),),
        lambda learned: {"bias": longattn.Alibi(learned[0])},
        learned=((HEADS,),),
    ),
    Subject(
        "KERPLE",
        (Causal(),),
        lambda learned: {"bias": longattn.Kerple(*(x.abs() + 0.1 for x in learned))},
        learned=((HEADS,), (HEADS,)),
    ),
    Subject("Sandwich", (Causal(),), lambda learned: {"bias": longattn.Sandwich()}),
    Subject(
        "learned table by distance",
        (Causal(),),
        lambda learned: {"bias": longattn.RelativeBias(learned[0])},
        learned=((HEADS, ROWS),),
    ),
    Subject(
        "sink logits",
        (Window(9),),
        lambda learned: {"sink_logits": learned[0]},
        learned=((HEADS,),),
    ),
    Subject("softcap", (Causal(),), lambda learned: {"softcap": 2.0}),
    Subject(
        "`dilated_attention`",
        ((12, 24), (1, 2)),
        function="dilated_attention",
        refuses=frozenset({"packed"}),
    ),
    Subject(
        "`rerope_attention`",
        (ROPE,),
        lambda learned: {"window": 7},
        function="rerope_attention",
        refuses=NOT_RING,
    ),
    Subject(
        "`lm_infinite_attention`",
        (ROPE,),
        lambda learned: {"window": 9, "sink_tokens": 2, "distance_ceiling": 9},
        function="lm_infinite_attention",
        refuses=NOT_RING,
    ),
    Subject("`xpos_attention`", (XPOS,), function="xpos_attention", refuses=NOT_RING),
)


class Place:
    """Where a call runs: a device, a dtype, a backend's name."""

    def __init__(self, name: str, device: str, dtype: torch.dtype, backend=None):
        self.name, self.device, self.dtype, self.backend = name, device, dtype, backend
        self.tolerance = 1e-5 if dtype == torch.float32 else 2e-2

    def tensors(self, subject: Subject, kv_heads: int, packed: bool) -> list:
        """Leaves: q, k, v, then what is learned (float32)."""
        generator = torch.Generator().manual_seed(0)
        lead = (ROWS,) if packed else (1, ROWS)
        shapes = [(*lead, heads, HEAD_DIM) for heads in (HEADS, kv_heads, kv_heads)]
        made = [torch.randn(s, generator=generator).to(self.device, self.dtype) for s in shapes]
        made += [torch.randn(s, generator=generator).to(self.device) for s in subject.learned]
        return [x.requires_grad_() for x in made]


def check(feature: str, subject: Subject, place: Place) -> None:
    """Raises AssertionError where the results are not the reference's."""
    tensors = place.tensors(subject, HEADS // 2 if feature == "GQA" else HEADS, feature == "packed")
    packed = {}
    if feature == "packed":
        borders = torch.tensor(BORDERS, dtype=torch.int32, device=place.device)
        packed = {"cu_seqlens_q": borders, "cu_seqlens_k": borders}

    def ours(*given):
        return subject.call(longattn, *given, backend=place.backend, **packed)

    if feature == "compile":
        torch.compiler.reset()  # else other subjects count as recompilations of this one
        ours = torch.compile(ours, fullgraph=True, backend="aot_eager")
    if feature == "ring":
        ours = _on_a_ring(subject, place)
    exact = [x.detach().cpu().double().requires_grad_() for x in tensors]
    borders = {name: value.cpu() for name, value in packed.items()}
    out, expected = ours(*tensors), subject.call(reference, *exact, **borders)
    _compare("out", out, expected, place)
    if feature == "forward":
        return
    gradient = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    gradient = gradient.to(place.device, out.dtype)
    found = torch.autograd.grad(out, tensors, gradient)
    wanted = torch.autograd.grad(expected, exact, gradient.cpu().double())
    for name, one, other in zip(("dq", "dk", "dv", "learned", "learned"), found, wanted):
        _compare(name, one, other, place)


def _on_a_ring(subject: Subject, place: Place) -> Callable:
    """Three ranks in one process."""
    by_plan = subject.function == "attention"
    plan = ring.plan(ROWS, ring.VirtualRing(3), "zigzag" if by_plan else "contiguous")

    def call(q, k, v, *learned):
        shards = [plan.shard(x) for x in (q, k, v)]
        if by_plan:
            keywords = subject.keywords(learned)
            outs = plan.attention(*shards, *subject.arguments, **keywords, backend=place.backend)
        else:
            outs = subject.call(longattn, *shards, *learned, plan=plan, backend=place.backend)
        return plan.unshard(outs)

    return call


def _compare(name: str, actual, expected, place: Place) -> None:
    distance = (actual.detach().cpu().double() - expected.detach()).norm() / expected.norm()
    # A slope a head is the sum of all its pairs, which nearly cancel; 16 bits leave less of it.
    accepted = place.tolerance * (3 if name == "learned" else 1)
    assert distance <= accepted, f"{name} is off by {distance:.1e} of its norm"

