# SPDX-License-Identifier: BSD-3-Clause
"""A mesh whose ranks all live in this process."""

from __future__ import annotations

from longattn.ring.mesh import Mesh
from longattn.ring.virtual import InOneProcess, VirtualRing, check_size


class VirtualMesh(InOneProcess, Mesh):
    """`ring * heads` ranks in one process, those of ring rank 0 first; otherwise as VirtualRing."""

    def __init__(self, ring: int, heads: int):
        check_size("ring", ring)
        check_size("heads", heads)
        super().__init__(
            {place: VirtualRing(ring) for place in range(heads)},
            {ring_rank: VirtualRing(heads) for ring_rank in range(ring)},
        )
