# SPDX-License-Identifier: BSD-3-Clause
"""Bugs to plant in the CUDA kernels, as data, and what catches each; test_mutations.py plants them.

`old` occurs once in its file. A text with a semicolon is replaced as statements, one without as an
expression, so that one build of a copy holds all bugs and chooses between them when it runs.
"""

from mutations.pipeline import PIPELINE
from mutations.rotations import ROTATIONS
from mutations.scores import BIAS_GRADIENTS, SCORES
from mutations.stores import COLLECTIVES, HEADS_AND_SLICES, STORES
from mutations.sums import SUMS
from mutations.tiles import SCHEDULE, TILES

MUTATIONS = (
    *(*PIPELINE, *TILES, *SCHEDULE, *SUMS, *SCORES, *BIAS_GRADIENTS),
    *(*HEADS_AND_SLICES, *STORES, *COLLECTIVES, *ROTATIONS),
)
