# SPDX-License-Identifier: BSD-3-Clause
"""torch's FlexAttention, compiled, with the block mask that its authors would make."""

from __future__ import annotations

import functools

import torch

from bench.contenders.base import Absent, Contender, pairs_fit

FLEX = "FlexAttention, compiled"


def flex(case, visible, score=None, name=FLEX) -> Contender:
    """visible(query, key) -> bool; score(score, head, query, key) -> score."""

    def prepare():
        try:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        except ImportError as error:
            raise Absent(f"this torch has no FlexAttention: {error}") from error

        pairs_fit(case)

        def mask(batch, head, query, key):
            return visible(query, key)

        block_mask = create_block_mask(
            mask, None, None, case.length, case.length, device=case.device
        )
        keywords = {"block_mask": block_mask, "enable_gqa": case.key_heads != case.q_heads}
        if score is not None:

            def score_mod(value, batch, head, query, key):
                return score(value, head, query, key)

            keywords["score_mod"] = score_mod
        torch.compiler.reset()  # else a limit on compilations is met, and it runs uncompiled
        compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
        call = functools.partial(compiled, **keywords)
        return lambda q, k, v, *_: call(q, k, v)

    return Contender(name, prepare)


def causal(query, key):
    return query >= key
