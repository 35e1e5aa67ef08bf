# SPDX-License-Identifier: BSD-3-Clause
"""Lets the gates import bench/ beside whichever longattn is installed, on one thread."""

import sys
from pathlib import Path

import torch

# Last, so that the source folder hides no installed longattn.
sys.path.append(str(Path(__file__).resolve().parents[2]))

torch.set_num_threads(1)
