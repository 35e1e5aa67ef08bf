# SPDX-License-Identifier: BSD-3-Clause
"""Attention over sequences that are split over ranks."""

from longattn.ring.communicator import Communicator, Traffic
from longattn.ring.planning import plan
from longattn.ring.plans import Plan
from longattn.ring.virtual import VirtualRing
from longattn.ring.virtual_mesh import VirtualMesh

__all__ = ["Communicator", "Plan", "Traffic", "VirtualMesh", "VirtualRing", "plan"]
