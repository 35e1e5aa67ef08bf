# SPDX-License-Identifier: BSD-3-Clause
"""A ring of processes on one machine: the CPU time of all ranks beside one process that does the
whole, what they send, and the error against the number of ranks."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from typing import Optional

import torch

import longattn
from bench.scaling import exponent
from bench.timing import Spread
from longattn import reference, ring

WORLD_SIZES = (1, 2, 4)
ERROR_RANKS = (1, 2, 3, 4, 6, 8)
ERROR_LENGTH = 1024
PARTS = ("forward", "both")
MASKS = {
    "causal": longattn.Causal(),
    "64 sinks + window 1024": longattn.Window(1024, sink_tokens=64),
}
MOST = 1.1  # CPU time of all ranks beside one process
MOST_UNEVEN = 1.05  # of the busiest rank beside the mean, where work is dealt out evenly
EVEN = ("zigzag", "striped")  # layouts that do


@dataclasses.dataclass(frozen=True)
class RingCase:
    mask: str = "causal"
    layout: str = "zigzag"
    length: int = 8192
    q_heads: int = 4
    kv_heads: int = 4
    head_dim: int = 64
    dtype: str = "float32"

    @property
    def title(self) -> str:
        return f"ring, {self.mask}, {self.layout}"

    def inputs(self, length=None) -> list:
        """q, k, v and the gradient of out, the same on every rank."""
        generator = torch.Generator().manual_seed(0)
        rows = self.length if length is None else length
        heads = (self.q_heads, self.kv_heads, self.kv_heads, self.q_heads)
        shapes = [(1, rows, count, self.head_dim) for count in heads]
        made = [torch.randn(shape, generator=generator) for shape in shapes]
        return [x.to(getattr(torch, self.dtype)) for x in made]


def cases(**sizes) -> list:
    return [RingCase(**sizes), RingCase("64 sinks + window 1024", "contiguous", **sizes)]


def cannot_run() -> Optional[str]:
    """Why, or None."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        return "this build of torch has no torch.distributed with gloo"
    return None


def measure(case: RingCase, rounds: int) -> list:
    """Rows for each world size and part. A round is one call of all ranks, in step; its cost is the
    CPU time of all processes together."""
    rows = []
    for world_size in WORLD_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(
                _work, args=(world_size, case, rounds, folder), nprocs=world_size
            )
            paths = [pathlib.Path(folder) / f"{rank}.json" for rank in range(world_size)]
            ranks = [json.loads(path.read_text()) for path in paths]
        rows += [_row(case, world_size, part, [rank[part] for rank in ranks]) for part in PARTS]
    alone = {row["part"]: row["cpu_ms"] for row in rows if row["world_size"] == 1}
    return [row | {"ratio": round(row["cpu_ms"] / alone[row["part"]], 3)} for row in rows]


def _row(case: RingCase, world_size: int, part: str, ranks: list) -> dict:
    totals = [sum(times) for times in zip(*(rank["seconds"] for rank in ranks))]
    row = dataclasses.asdict(case) | {"title": case.title}
    row |= {"world_size": world_size, "part": part}
    row["cpu_ms"] = float(f"{statistics.median(totals) * 1e3:.4g}")
    row["busiest"] = busiest([rank["seconds"] for rank in ranks])
    row["megabytes"] = round(sum(rank["bytes"] for rank in ranks) / 1e6, 3)
    row["hops"] = sum(rank["hops"] for rank in ranks)
    return row


def busiest(ranks: list) -> list:
    """ranks: the seconds of each rank's rounds -> the longest of a round beside its mean: median,
    least, most."""
    rounds = list(zip(*ranks))
    return [round(x, 3) for x in Spread.of([max(one) / statistics.mean(one) for one in rounds])]


def _work(rank: int, world_size: int, case: RingCase, rounds: int, folder: str) -> None:
    """A process: one rank, one thread. World size 1 is longattn.attention itself."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=world_size
    )
    plan = ring.plan(case.length, layout=case.layout)
    *qkv, gradient = (plan.shard(x) for x in case.inputs())
    qkv = [x.requires_grad_() for x in qkv]
    mask = MASKS[case.mask]

    def attend():
        if world_size == 1:
            return longattn.attention(*qkv, mask)
        return plan.attention(*qkv, mask)

    def forward():
        with torch.no_grad():
            attend()

    calls = {"forward": forward, "both": lambda: torch.autograd.grad(attend(), qkv, gradient)}
    found = {}
    for part, call in calls.items():
        call()
        plan.communicator.traffic.reset()
        seconds = []
        for _ in range(rounds):
            torch.distributed.barrier()
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
        traffic = plan.communicator.traffic
        found[part] = {
            "seconds": seconds,
            "bytes": traffic.bytes // rounds,
            "hops": traffic.hops // rounds,
        }
    (pathlib.Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def errors(case: RingCase) -> dict:
    """RMS error of out and gradients against float64 for each number of ranks, and the exponent of
    its growth, with all ranks in one process."""
    *tensors, gradient = case.inputs(ERROR_LENGTH)
    mask = MASKS[case.mask]
    exact = [x.double().requires_grad_() for x in tensors]
    out = reference.attention(*exact, mask)
    truth = [out.detach(), *torch.autograd.grad(out, exact, gradient.double())]
    found = {name: [] for name in ("out", "dq", "dk", "dv")}
    for world_size in ERROR_RANKS:
        plan = ring.plan(ERROR_LENGTH, ring.VirtualRing(world_size), case.layout)
        leaves = [x.requires_grad_() for x in tensors]
        out = plan.unshard(plan.attention(*(plan.shard(x) for x in leaves), mask))
        made = [out.detach(), *torch.autograd.grad(out, leaves, gradient)]
        for errors_of, one, other in zip(found.values(), made, truth):
            errors_of.append((one.double() - other).square().mean().sqrt().item())
    said = {"title": case.title, "length": ERROR_LENGTH, "ranks": list(ERROR_RANKS)}
    row = dataclasses.asdict(case) | said
    for name, values in found.items():
        row[name] = [float(f"{value:.3g}") for value in values]
        row[f"{name}_exponent"] = round(exponent(ERROR_RANKS, values), 3)
    return row


def text_of(row: dict) -> str:
    name = f"{row['title']}, {row['dtype']}"
    if "ranks" in row:
        grown = ", ".join(f"{x} ~ P^{row[f'{x}_exponent']}" for x in ("out", "dq", "dk", "dv"))
        return f"{name}, N {row['length']}: error from 1 to {row['ranks'][-1]} ranks: {grown}"
    return (
        f"{name}, N {row['length']}, {row['part']}: {row['world_size']} ranks take "
        f"{row['cpu_ms']} ms of CPU time in all, {row['ratio']} of one process; "
        f"{row['megabytes']} MB in {row['hops']} hops"
    )
