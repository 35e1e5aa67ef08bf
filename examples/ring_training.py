# SPDX-License-Identifier: BSD-3-Clause
"""Trains the demo's byte-level decoder with each sequence split over ranks.

    torchrun --nproc-per-node 4 examples/ring_training.py
    torchrun --nproc-per-node 4 examples/ring_training.py --data 2 --fsdp --compare

gloo on CPUs, NCCL on GPUs. --data: how many groups of ranks have contexts of their own; within a
group the ranks share them. --compare: rank 0 also trains alone, on whole sequences; both losses are
printed, and the exit status is 1 if they differ by more than rounding does.
"""

from __future__ import annotations

import argparse
import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import longattn
from longattn.demo.attends import rope
from longattn.demo.model import START, Decoder
from longattn.demo.text import read_corpus

LEARNING_RATE = 1e-3
NO_LABEL = -100
TOLERANCES = {"cpu": 1e-4, "cuda": 2e-2}  # nats; float32, and bfloat16 under autocast


def main(arguments: list[str] | None = None) -> int:
    settings = parse(arguments)
    if "RANK" not in os.environ:
        print("run it as torchrun --nproc-per-node 4 examples/ring_training.py", file=sys.stderr)
        return 2
    device = local_device()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        check(settings, dist.get_world_size())
        largest = 0.0
        for step, (loss, alone) in enumerate(train(settings, device)):
            if dist.get_rank() == 0:
                comparison = "" if alone is None else f"   alone {alone:.6f}"
                print(f"step {step:3d}   {loss:.6f} nats/byte{comparison}", flush=True)
            largest = max(largest, 0.0 if alone is None else abs(loss - alone))
        return int(largest > TOLERANCES[device.type])
    finally:
        dist.destroy_process_group()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--length", type=int, default=4096, help="bytes of a context")
    parser.add_argument("--batch", type=int, default=2, help="contexts of a step, of all groups")
    parser.add_argument("--chunk", type=int, default=256, help="positions computed at once")
    parser.add_argument("--layout", default="zigzag", help="zigzag, striped or contiguous")
    parser.add_argument("--data", type=int, default=1, help="groups with contexts of their own")
    parser.add_argument("--fsdp", action="store_true", help="shard the parameters over all ranks")
    parser.add_argument("--compare", action="store_true", help="train alone as well, on rank 0")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def check(settings, world: int) -> None:
    if settings.data < 1 or world % settings.data or settings.batch < settings.data:
        raise SystemExit(
            f"--data must divide the number of ranks ({world}) and be at most --batch "
            f"({settings.batch}), got {settings.data}"
        )


def local_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def train(settings, device):
    """Yields each step's loss, and that of the training alone (None where nobody does it)."""
    world = dist.get_world_size()
    mesh = init_device_mesh(
        device.type, (settings.data, world // settings.data), mesh_dim_names=("data", "sequence")
    )
    plan = longattn.ring.plan(settings.length, mesh["sequence"], settings.layout)
    model = distributed(new_model(settings, device), settings.fsdp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    attend = ring_attend(plan)
    compares = settings.compare and dist.get_rank() == 0
    alone = training_alone(settings, device) if compares else None
    for batch in batches(settings):
        own = batch[mesh["data"].get_local_rank() :: settings.data].to(device)
        tokens, labels = plan.shard(own), plan.shard_labels(own, fill=NO_LABEL)
        total, count = loss_and_count(model, tokens, labels, attend)
        # Shards hold different numbers of labels: the mean is over the tokens of all ranks. The
        # gradients of ranks are averaged, so that each has to be as large as world of them.
        count = all_sum(count)
        loss = all_sum(total.detach()) / count
        descend(model, optimizer, total * world / count)
        yield loss.item(), next(alone) if compares else None


def training_alone(settings, device):
    """Yields the losses of the same training on whole sequences in one process."""
    model = new_model(settings, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def attend(q, k, v):
        return longattn.attention(
            *longattn.apply_rotary(q, k, rope(q.shape[3])), v, longattn.Causal()
        )

    for batch in batches(settings):
        tokens, labels = batch[:, :-1].to(device), batch[:, 1:].to(device)
        total, count = loss_and_count(model, tokens, labels, attend)
        descend(model, optimizer, total / count)
        yield (total / count).item()


def new_model(settings, device) -> Decoder:
    torch.manual_seed(settings.seed)
    return Decoder(chunk_size=settings.chunk).to(device)


def distributed(model: Decoder, fsdp: bool) -> nn.Module:
    """Over all ranks: those that share a sequence also hold gradients of parts of it only."""
    if not fsdp:
        return DistributedDataParallel(model)
    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model)


def ring_attend(plan):
    def attend(q, k, v):
        q, k = plan.apply_rotary(q, k, rope(q.shape[3]))
        return plan.attention(q, k, v, longattn.Causal())

    return attend


def batches(settings):
    """[batch, length] tokens from anywhere in the text, the same on all ranks."""
    text = read_corpus().train
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        begin = torch.randint(len(text) - settings.length, (settings.batch, 1), generator=generator)
        contexts = text[begin + torch.arange(settings.length - 1)].long()
        yield functional.pad(contexts, (1, 0), value=START)


def loss_and_count(model, tokens, labels, attend) -> tuple:
    """(sum of the losses in nats, number of labels)"""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
        logits = model(tokens, attend)
    total = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="sum"
    )
    return total, (labels != NO_LABEL).sum()


def descend(model, optimizer, loss) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def all_sum(number: torch.Tensor) -> torch.Tensor:
    number = number.clone()
    dist.all_reduce(number)
    return number


if __name__ == "__main__":
    sys.exit(main())
