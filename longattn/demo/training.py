# SPDX-License-Identifier: BSD-3-Clause
"""Training: random contexts of one short length, AdamW, a learning rate that falls at the end."""

from __future__ import annotations

import time
from typing import Callable

import torch
from tqdm import tqdm

from longattn.demo.model import Attend, Attends, Decoder, next_byte_loss
from longattn.demo.settings import Settings
from longattn.demo.text import Corpus

LEARNING_RATE = 4e-3
WARMUP_STEPS = 20
TRIAL_ROUNDS, TRIAL_STEPS = 4, 3

Step = Callable[[float], float]  # learning rate -> loss of the step, in nats per byte


def threads_to_use(corpus: Corpus, settings: Settings, attend: Attend) -> int:
    """settings.threads, else torch's number unless one thread is clearly faster.

    That happens where other programs keep the cores busy: threads that meet hundreds of times a
    step then wait for whichever of them has no core.
    """
    all_threads = torch.get_num_threads()
    if settings.threads is not None or settings.steps is not None or all_threads == 1:
        return settings.threads or all_threads
    run, seconds = Run(corpus, settings, attend), {all_threads: 0.0, 1: 0.0}
    run.step(0.0)  # warms up
    for threads in [all_threads, 1] * TRIAL_ROUNDS:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        for _ in range(TRIAL_STEPS):
            run.step(0.0)
        seconds[threads] += time.perf_counter() - start
    torch.set_num_threads(all_threads)
    return 1 if seconds[1] < 0.7 * seconds[all_threads] else all_threads


def train(corpus: Corpus, settings: Settings, attend: Attend) -> tuple[Decoder, list[float]]:
    """The trained decoder and the loss of each step, in nats per byte."""
    run = Run(corpus, settings, attend)
    losses = descend(run.step, settings)
    return run.model.eval(), losses


def descend(step: Step, settings: Settings) -> list[float]:
    """Step after step; the loss of each.

    The learning rate is constant for two thirds of the steps and falls to zero in the last third.
    Where the number of steps is not given, the fall starts when two thirds of the time are gone:
    the clock decides only how many steps there are, and the report says how to repeat the run.
    """
    limit = settings.most_steps if settings.steps is None else settings.steps
    fall = limit - limit // 3  # the step at which the learning rate begins to fall
    losses, start = [], time.perf_counter()
    with tqdm(total=limit, desc="training", unit="step") as progress:
        while len(losses) < min(limit, fall + fall // 2):
            done = len(losses)
            late = time.perf_counter() - start > settings.seconds * 2 / 3
            if settings.steps is None and late and 1 < done < fall:
                fall = done
                progress.total = fall + fall // 2
            warmup = min(1.0, (done + 1) / WARMUP_STEPS)
            remaining = 1.0 if done < fall else 1 - (done - fall) / (fall // 2)
            losses.append(step(LEARNING_RATE * warmup * remaining))
            recent = losses[-20:]
            progress.set_postfix_str(f"{sum(recent) / len(recent):.3f} nats/byte", refresh=False)
            progress.update()
    return losses


class Run:
    """A decoder, its optimiser and its own stream of random contexts, the same for every run.

    learned: what the attention learns; it is not decayed.
    """

    def __init__(self, corpus: Corpus, settings: Settings, attends: Attends, learned=()):
        self.text, self.settings, self.attends = corpus.train, settings, attends
        self.generator = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):  # leaves the caller's random state alone
            torch.manual_seed(settings.seed)
            self.model = Decoder()
        groups = [{"params": list(self.model.parameters()), "weight_decay": 0.1}]
        if learned:
            groups.append({"params": list(learned), "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))

    def step(self, learning_rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = next_byte_loss(self.model, self._contexts(), self.attends).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()

    def _contexts(self) -> torch.Tensor:
        """[batch, length] uint8, from anywhere in the text."""
        batch, length = self.settings.batch, self.settings.length
        start = torch.randint(len(self.text) - length, (batch, 1), generator=self.generator)
        return self.text[start + torch.arange(length)]
