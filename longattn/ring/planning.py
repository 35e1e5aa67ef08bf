# SPDX-License-Identifier: BSD-3-Clause
"""`longattn.ring.plan`: checks, and puts a plan together."""

from __future__ import annotations

from numbers import Integral

import torch

from longattn import checks
from longattn.masks import check_flag
from longattn.ring import communicator
from longattn.ring.agreement import Agreement
from longattn.ring.mesh import Mesh
from longattn.ring.pieces import LAYOUTS, Geometry
from longattn.ring.plans import Plan
from longattn.ring.portions import MeshGeometry


def plan(seq_len: int, group=None, layout: str = "zigzag", *, cu_seqlens=None, check=True) -> Plan:
    """How a sequence of `seq_len` positions is split over the ranks of a group.

    Args:
        seq_len: of the whole sequence; it need not be a multiple of anything.
        group: None (torch.distributed's default group), a process group, a 1-D DeviceMesh, or
            `VirtualRing(world_size)` for all ranks in this process. The group's backend carries
            the tensors: gloo those of the CPU, NCCL those of CUDA. A 2-D DeviceMesh, or
            `VirtualMesh(ring, heads)`: a ring along the dimension named "ring", and along that
            named "heads" an all-to-all of rows for heads (Fang and Zhao 2024, arXiv 2405.07719);
            without these names, along the first and the second dimension.
        layout: "contiguous": one chunk a rank. "zigzag": of 2 * world_size chunks, rank r owns
            chunks r and 2 * world_size - 1 - r, which balances causal attention. "striped": rank r
            owns the positions r, r + world_size, ... (Brandon et al. 2023, arXiv 2311.09431). On a
            mesh these are ranks of the ring; each rank owns a portion of its ring rank's rows.
        cu_seqlens: [documents + 1] integers, a list or a tensor (one on a GPU is read back here):
            documents packed one after the other, which may lie across ranks. Each has positions,
            sinks and groups of its own and sees itself alone.
        check: the first call of each method compares the arguments of all ranks, which waits for
            them once; ranks that disagree are named in an error on every rank. False, on every
            rank: they are taken to agree, which spares a new plan for each step (packed documents)
            a collective.

    Raises:
        TypeError, ValueError: with the value and what is accepted; without a process group too.
    """
    if not isinstance(seq_len, Integral) or isinstance(seq_len, bool):
        raise TypeError(f"seq_len must be an integer, got {seq_len!r}")
    if seq_len < 0:
        raise ValueError(f"seq_len must be at least 0, got {seq_len}")
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {list(LAYOUTS)}, got {layout!r}")
    borders = () if cu_seqlens is None else _borders(cu_seqlens, int(seq_len))
    check_flag("check", check)
    ranks = communicator.choose(group)
    heads = ranks.heads if isinstance(ranks, Mesh) else 1
    geometry = Geometry(int(seq_len), ranks.world_size // heads, layout, borders)
    if isinstance(ranks, Mesh):
        geometry = MeshGeometry(geometry, heads)
    return Plan(geometry, ranks, Agreement(ranks, check))


def _borders(cu_seqlens, seq_len: int) -> tuple:
    borders = cu_seqlens.tolist() if isinstance(cu_seqlens, torch.Tensor) else list(cu_seqlens)
    if not borders or any(not isinstance(b, Integral) or isinstance(b, bool) for b in borders):
        raise TypeError(
            f"cu_seqlens must be integers [documents + 1], a list or a tensor, got {cu_seqlens!r}"
        )
    checks.check_borders("cu_seqlens", borders, seq_len)
    return tuple(int(border) for border in borders)
