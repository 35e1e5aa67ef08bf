# SPDX-License-Identifier: BSD-3-Clause
"""Which rank is to blame when a transfer fails.

A rank that dies takes its connections with it, and those that wait for ranks that waited for it
fail in turn; for one that is late, all connections are closed at the timeout. So each rank that
fails says so in the group's store, and those that lost theirs without a word are to blame."""

from __future__ import annotations

import contextlib
import re
import time

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_process_group_store

from longattn.ring.group_backend import backend_of

PATIENCE = 2.0  # seconds in which ranks that fail for the same reason say so
TRANSPORT = re.compile(r"gloo|nccl|timed? ?out|connect|socket|peer|broken pipe", re.IGNORECASE)


@contextlib.contextmanager
def blamed(group, doing: str, names):
    """Turns a RuntimeError of the transport into one whose sentence names the ranks that do not
    answer. Others, such as that of a dtype which the backend cannot add, are this rank's own.

    doing: what failed, as in "rank 0 could not <doing>".
    names: what the ranks of the group are called, in order."""
    try:
        yield
    except RuntimeError as error:
        if not TRANSPORT.search(str(error)):
            raise
        raise RuntimeError(_sentence(group, doing, names, error)) from error


def _sentence(group, doing: str, names, error) -> str:
    me = dist.get_rank(group)
    if backend_of(group, torch.device("cpu")) != "gloo":
        untold = f"the {dist.get_backend(group)} backend does not tell which rank failed"
        return f"rank {names[me]} could not {doing}: {untold} ({error})"
    lost = [r for r in range(dist.get_world_size(group)) if r != me and not _reachable(group, r)]
    silent = _silent(group, me, lost)
    if not lost:
        blame = (
            "all ranks can be reached, so that they wait for each other: every rank has to make "
            "the same calls"
        )
    elif silent:
        listed = " and ".join(f"rank {names[rank]}" for rank in silent)
        blame = f"no answer from {listed}, which stopped or did not get here in time"
    else:
        blame = (
            "all others say that they failed too, so that they waited for this rank, which came "
            "late, or for each other: every rank has to make the same calls"
        )
    return f"rank {names[me]} could not {doing}: {blame}; this group is of no more use ({error})"


def _silent(group, me: int, lost: list) -> list:
    """Of the ranks whose connections are broken, those who have not said that they failed."""
    try:
        store = _get_process_group_store(group)
        store.set(f"longattn/failed/{me}", "")
        last = time.monotonic() + PATIENCE
        while time.monotonic() < last:
            said = [store.check([f"longattn/failed/{rank}"]) for rank in lost]
            if all(said):
                break
            time.sleep(0.05)
        return [rank for rank, failed in zip(lost, said) if not failed]
    except RuntimeError:  # the store may live in the process that died
        return lost


def _reachable(group, rank: int) -> bool:
    """gloo refuses at once to send where the connection is broken. What is sent here is never read:
    after a failure the group is of no more use."""
    try:
        dist.isend(torch.zeros(1), dist.get_global_rank(group, rank), group=group)
    except RuntimeError:
        return False
    return True
