# SPDX-License-Identifier: BSD-3-Clause
"""What every public function means, in dense PyTorch: the definition to read and to test against.

Same names, same signatures, any device; float64 in is an oracle. See `longattn.reference.dense`."""

from longattn.reference.dense import (
    attention,
    dilated_attention,
    lambda_attention,
    merge_partials,
    shifted_sparse_attention,
    visible,
)
from longattn.reference.rotary import apply_rotary
from longattn.reference.positions import (
    lm_infinite_attention,
    rerope_attention,
    xpos_attention,
)

__all__ = [
    "apply_rotary",
    "attention",
    "dilated_attention",
    "lambda_attention",
    "lm_infinite_attention",
    "merge_partials",
    "rerope_attention",
    "shifted_sparse_attention",
    "visible",
    "xpos_attention",
]
