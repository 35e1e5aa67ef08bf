# SPDX-License-Identifier: BSD-3-Clause
"""Speed and memory of the decoder's forward + backward, longattn and torch's SDPA side by side."""

from __future__ import annotations

import dataclasses
import time
from typing import Callable

import torch
from tqdm import tqdm

from longattn.demo.attends import visible_pairs
from longattn.demo.memory import peak_memory
from longattn.demo.model import Attend, Decoder, next_byte_loss
from longattn.demo.settings import SPEED_MULTIPLES, Settings
from longattn.demo.text import Corpus

SECONDS = 12.0  # for the timed rounds; the first is run whatever it takes
MOST_ROUNDS = 7


@dataclasses.dataclass(frozen=True)
class Speed:
    tokens_a_second: dict[int, float]  # context length -> in the fastest round
    peak_bytes: int | None  # of one forward + backward at the longest context


def measure(
    model: Decoder, corpus: Corpus, settings: Settings, attends: dict[str, Attend]
) -> dict[str, Speed]:
    """Memory, then time: round by round, so that a slow moment of the machine hits all alike."""
    tokens = SPEED_MULTIPLES[-1] * settings.length  # the same number in every batch
    lengths = [multiple * settings.length for multiple in SPEED_MULTIPLES]
    passes = {
        (name, length): _pass(model, corpus.held_out[:tokens].view(-1, length), attend)
        for name, attend in attends.items()
        for length in lengths
    }
    seconds = {key: [] for key in passes}
    with tqdm(total=len(attends) + MOST_ROUNDS * len(passes), desc="speed") as progress:
        peaks = {}
        for name in attends:  # also a warm-up
            visible_pairs.cache_clear()  # a mask that SDPA needs counts as its memory
            peaks[name] = peak_memory(passes[name, lengths[-1]], torch.device("cpu"))
            progress.update()
        start = time.perf_counter()
        for rounds in range(1, MOST_ROUNDS + 1):
            for key, forward_and_backward in passes.items():
                seconds[key].append(_seconds(forward_and_backward))
                progress.update()
            if (time.perf_counter() - start) * (rounds + 1) / rounds > SECONDS:
                break
        progress.total = progress.n
    return {
        name: Speed({n: tokens / min(seconds[name, n]) for n in lengths}, peaks[name])
        for name in attends
    }


def _pass(model: Decoder, text: torch.Tensor, attend: Attend) -> Callable[[], None]:
    def forward_and_backward():
        model.zero_grad(set_to_none=True)
        next_byte_loss(model, text, attend).mean().backward()

    return forward_and_backward


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
