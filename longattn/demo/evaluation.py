# SPDX-License-Identifier: BSD-3-Clause
"""Loss on held-out text at several context lengths: the same bytes to predict for all of them."""

from __future__ import annotations

import dataclasses
from typing import Callable

import torch
from tqdm import tqdm

from longattn.demo.model import Attend, Attends, Decoder, next_byte_loss
from longattn.demo.settings import Settings
from longattn.demo.text import Corpus

TOKENS_A_BATCH = 8192


@dataclasses.dataclass(frozen=True)
class Losses:
    """Losses of one way to attend, in nats. Keys are multiples of the training length."""

    at_end: dict[int, torch.Tensor]  # [contexts], mean over the last training length of bytes
    everywhere: dict[int, torch.Tensor]  # [contexts], mean over all bytes of the context
    by_position: torch.Tensor  # [longest context], mean over contexts

    def mean(self, multiple: int) -> float:
        return self.at_end[multiple].mean().item()

    def change(self, multiple: int) -> tuple[float, float]:
        """Mean of (loss at `multiple` - loss at 1x) over contexts, and its standard error."""
        difference = self.at_end[multiple] - self.at_end[1]
        return difference.mean().item(), standard_error(difference)


def standard_error(of_contexts: torch.Tensor) -> float:
    return (of_contexts.std() / len(of_contexts) ** 0.5).item()


def held_out_contexts(corpus: Corpus, settings: Settings, multiple: int) -> torch.Tensor:
    """[contexts, multiple * length] uint8. Where a context ends does not depend on `multiple`."""
    longest = settings.multiples[-1] * settings.length
    ends = torch.linspace(longest, len(corpus.held_out), settings.contexts).long()
    return corpus.held_out[ends[:, None] + torch.arange(-multiple * settings.length, 0)]


@torch.no_grad()
def losses_of(model: Decoder, contexts: torch.Tensor, attends: Attends) -> torch.Tensor:
    """[contexts, length] -> nats of the same shape"""
    batches = contexts.split(max(1, TOKENS_A_BATCH // contexts.shape[1]))
    return torch.cat([next_byte_loss(model, batch, attends) for batch in batches])


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
) -> dict[str, Losses]:
    total = len(attends) * sum(settings.multiples)
    with tqdm(total=total, desc="evaluation", unit="length") as progress:
        return {
            name: measure(model, corpus, settings, lambda multiple: attend, progress)
            for name, attend in attends.items()
        }


def measure(
    model: Decoder,
    corpus: Corpus,
    settings: Settings,
    attends_at: Callable[[int], Attends],
    progress: tqdm,
) -> Losses:
    """attends_at: multiple of the training length -> how to attend in contexts of that length."""
    at_end, everywhere = {}, {}
    for multiple in settings.multiples:
        contexts = held_out_contexts(corpus, settings, multiple)
        losses = losses_of(model, contexts, attends_at(multiple))
        at_end[multiple] = losses[:, -settings.length :].mean(dim=1)
        everywhere[multiple] = losses.mean(dim=1)
        progress.update(multiple)
    return Losses(at_end, everywhere, by_position=losses.mean(dim=0))
