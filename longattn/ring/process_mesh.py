# SPDX-License-Identifier: BSD-3-Clause
"""One rank of a 2-D DeviceMesh."""

from __future__ import annotations

from torch.distributed import GroupMember
from torch.distributed import ProcessGroup as ProcessGroupOfTorch
from torch.distributed.device_mesh import DeviceMesh

from longattn.ring.communicator import Communicator
from longattn.ring.mesh import Mesh
from longattn.ring.process_group import ProcessGroup

NAMES = ("ring", "heads")


class ProcessMesh(Mesh):
    """The dimensions named "ring" and "heads"; of a mesh without names the first one is the ring
    and the second one the heads."""

    def __init__(self, mesh: DeviceMesh):
        names = mesh.mesh_dim_names or NAMES
        if set(names) != set(NAMES):
            raise ValueError(
                'the dimensions of a 2-D DeviceMesh must be named "ring" and "heads", got '
                f'{names}: give the part that the sequence is split over, as in mesh["sequence"], '
                "or name them so"
            )
        first, second = (names.index(name) for name in NAMES)
        if any((mesh.mesh.diff(dim=dim) <= 0).any() for dim in (0, 1)):
            # Groups count their ranks in this order, whatever the mesh says.
            raise ValueError(
                "the ranks of a mesh must rise along both of its dimensions, got "
                f"{mesh.mesh.tolist()}"
            )
        ring, across = ProcessGroup(mesh.get_group(first)), ProcessGroup(mesh.get_group(second))
        super().__init__({across.rank: ring}, {ring.rank: across})
        ring.names = range(across.rank, self.world_size, self.heads)
        across.names = range(ring.rank * self.heads, (ring.rank + 1) * self.heads)

    def split(self, value):
        return [value]

    def join(self, values):
        return values[0]


def choose(group) -> Communicator:
    """None (the default process group), a process group, or a DeviceMesh of one or two
    dimensions."""
    if group is GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            "this process does not belong to the group that new_group() made: only its ranks plan"
        )
    if group is not None and not isinstance(group, (DeviceMesh, ProcessGroupOfTorch)):
        raise TypeError(
            "group must be None, a process group, a DeviceMesh, a VirtualRing or a VirtualMesh, "
            f"got {group!r}"
        )
    if not isinstance(group, DeviceMesh) or group.ndim == 1:
        return ProcessGroup(group)
    if group.ndim == 2:
        return ProcessMesh(group)
    raise ValueError(
        "a DeviceMesh must have one dimension, the ring, or two, ring and heads, got "
        f'{group.ndim}: name those of the sequence, as in mesh["ring", "heads"]'
    )
