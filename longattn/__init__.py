# SPDX-License-Identifier: BSD-3-Clause
"""longattn: attention for very long sequences."""

from longattn import reference, ring, rope, sinks
from longattn.attention import attention
from longattn.biases import Alibi, Kerple, RelativeBias, Sandwich
from longattn.blockwise import blockwise_feedforward
from longattn.blockwise_layer import BlockwiseLayer
from longattn.logn import LogN
from longattn.masks import Band, Causal, Full, Groups, Prefix, Window
from longattn.partials import merge_partials
from longattn.patterns.dilated import dilated_attention
from longattn.patterns.lambda_shaped import lambda_attention
from longattn.patterns.lm_infinite import lm_infinite_attention
from longattn.patterns.rerope import rerope_attention
from longattn.patterns.shifted import shifted_sparse_attention
from longattn.patterns.xpos import xpos_attention
from longattn.rope import RotaryEmbedding
from longattn.rotary import apply_rotary
from longattn.version import __version__

__all__ = [
    "Alibi",
    "Band",
    "BlockwiseLayer",
    "Causal",
    "Full",
    "Groups",
    "Kerple",
    "LogN",
    "Prefix",
    "RelativeBias",
    "RotaryEmbedding",
    "Sandwich",
    "Window",
    "__version__",
    "apply_rotary",
    "attention",
    "blockwise_feedforward",
    "dilated_attention",
    "lambda_attention",
    "lm_infinite_attention",
    "merge_partials",
    "reference",
    "rerope_attention",
    "ring",
    "rope",
    "shifted_sparse_attention",
    "sinks",
    "xpos_attention",
]
