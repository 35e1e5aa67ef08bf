# SPDX-License-Identifier: BSD-3-Clause
"""One file a family of scalings; each is a frozen value passed as `scaling=`."""

from longattn.rope.scaling.base import Scaling
from longattn.rope.scaling.linear import Linear

__all__ = ["Linear", "Scaling"]
