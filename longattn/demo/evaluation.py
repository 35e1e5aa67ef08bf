# SPDX-License-Identifier: BSD-3-Clause
"""Loss on held-out text at several context lengths: the same bytes to predict for all of them."""

from __future__ import annotations

import dataclasses

import torch
from tqdm import tqdm

from longattn.demo.model import Attend, Decoder, next_byte_loss
from longattn.demo.settings import MULTIPLES, Settings
from longattn.demo.text import Corpus

TOKENS_A_BATCH = 8192


@dataclasses.dataclass(frozen=True)
class MaskLosses:
    """Losses of one mask in nats. Targets: the last training length of bytes of every context."""

    by_multiple: dict[int, torch.Tensor]  # multiple -> [contexts], mean over its targets
    by_position: torch.Tensor  # [longest context], mean over contexts

    def mean(self, multiple: int) -> float:
        return self.by_multiple[multiple].mean().item()

    def change(self, multiple: int) -> tuple[float, float]:
        """Mean of (loss at `multiple` - loss at 1x) over contexts, and its standard error."""
        difference = self.by_multiple[multiple] - self.by_multiple[MULTIPLES[0]]
        return difference.mean().item(), (difference.std() / len(difference) ** 0.5).item()


def held_out_contexts(corpus: Corpus, settings: Settings, multiple: int) -> torch.Tensor:
    """[contexts, multiple * length] uint8. Where a context ends does not depend on `multiple`."""
    longest = MULTIPLES[-1] * settings.length
    ends = torch.linspace(longest, len(corpus.held_out), settings.contexts).long()
    return corpus.held_out[ends[:, None] + torch.arange(-multiple * settings.length, 0)]


@torch.no_grad()
def losses_of(model: Decoder, contexts: torch.Tensor, attend: Attend) -> torch.Tensor:
    """[contexts, length] -> nats of the same shape"""
    batches = contexts.split(max(1, TOKENS_A_BATCH // contexts.shape[1]))
    return torch.cat([next_byte_loss(model, batch, attend) for batch in batches])


def largest_difference(
    model: Decoder, contexts: torch.Tensor, first: dict[str, Attend], second: dict[str, Attend]
) -> float:
    """The largest difference of a byte's loss between two implementations of the masks of both."""
    return max(
        (losses_of(model, contexts, first[name]) - losses_of(model, contexts, second[name]))
        .abs()
        .max()
        .item()
        for name in first.keys() & second.keys()
    )


def evaluate(
    model: Decoder, corpus: Corpus, settings: Settings, attends: dict[str, Attend]
) -> dict[str, MaskLosses]:
    result = {}
    with tqdm(total=len(attends) * sum(MULTIPLES), desc="evaluation", unit="length") as progress:
        for name, attend in attends.items():
            by_multiple = {}
            for multiple in MULTIPLES:
                losses = losses_of(model, held_out_contexts(corpus, settings, multiple), attend)
                by_multiple[multiple] = losses[:, -settings.length :].mean(dim=1)
                progress.update(multiple)
            result[name] = MaskLosses(by_multiple, by_position=losses.mean(dim=0))
    return result
