# SPDX-License-Identifier: BSD-3-Clause
"""One contender of one case: whether it takes part in inference and in training."""

from __future__ import annotations

import time
from typing import Callable, Optional

import torch

from bench import truth
from bench.contenders.base import OURS, Absent, Contender
from bench.prepared import Prepared
from longattn.demo.memory import peak_memory

INFERENCE, TRAINING = "inference", "training"
LONG = 0.2  # seconds of a call
PASS_OF = {"forward": INFERENCE, "backward": TRAINING, "both": TRAINING}


class Entrant:
    def __init__(self, contender: Contender):
        self.contender = contender
        self.prepared: Optional[Prepared] = None
        self.reasons = {}  # pass -> why it is not timed; None: it is
        self.errors = {}  # name of a tensor -> truth.Error
        self.peaks = {}  # pass -> bytes beyond those before, or None where nobody counts
        self.seconds = {}  # pass -> of one warm call, by the wall

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def role(self) -> str:
        if self.name == OURS:
            return "ours"
        return "baseline" if self.contender.baseline else "rival"

    def enter(self, inputs: list, gradients: list, exact, tolerance: float, passes) -> None:
        """Prepares it and compares its results; whoever is wrong is not timed."""
        try:
            self.prepared = Prepared(self.contender, inputs, gradients)
        except Absent as reason:
            self.reasons = dict.fromkeys(passes, str(reason))
            return
        except Exception as error:  # a rival that this torch or this machine does not take
            self._fail(error, passes)
            return
        checks = {INFERENCE: truth.output_errors, TRAINING: truth.gradient_errors}
        for name in (INFERENCE, TRAINING):
            if name == TRAINING and TRAINING not in passes:
                continue
            try:
                found = checks[name](self.prepared, exact)
            except Exception as error:
                self._fail(error, passes if name == INFERENCE else [name])
                return
            self.reasons[name] = None
            if self.contender.baseline:
                continue
            self.errors |= found
            reason = truth.wrong(found, tolerance)
            if reason is not None:
                self.reasons |= dict.fromkeys(passes if name == INFERENCE else [name], reason)
                return

    def accept(self, inputs: list, gradients: list, passes) -> None:
        """As `enter`, without a comparison."""
        self.prepared = Prepared(self.contender, inputs, gradients)
        self.reasons = dict.fromkeys(passes)

    def _fail(self, error: Exception, passes) -> None:
        if self.name == OURS:
            raise error
        while error.__cause__ is not None:  # a compiler wraps what went wrong
            error = error.__cause__
        lines = str(error).strip().splitlines() or [""]
        self.reasons |= dict.fromkeys(passes, f"{type(error).__name__}: {lines[0]}"[:200])

    def runs(self, name: str) -> bool:
        return self.prepared is not None and self.reasons[name] is None

    def warm(self, name: str, device: str) -> None:
        """Counts the memory of one call, which also makes it ready for the clock."""
        prepared = self.prepared
        call = prepared.inference if name == INFERENCE else prepared.training_step

        def timed():
            start = time.perf_counter()
            result = call()
            if device != "cpu":
                torch.cuda.synchronize()
            self.seconds[name] = time.perf_counter() - start
            return result

        for _ in range(2):  # short calls twice: the first may have something to set up
            self.peaks[name] = peak_memory(timed, torch.device(device))
            if self.seconds[name] > LONG:
                break

    def sampler(self, name: str, clock: Callable) -> Callable:
        prepared = self.prepared
        make = prepared.forward_sampler if name == INFERENCE else prepared.training_sampler
        return make(clock)

    def result_bytes(self, name: str, case) -> int:
        """Of what a call returns: the rest of its peak is temporaries."""
        outputs = sum(x.numel() * x.element_size() for x in self.prepared.gradients)
        leaves = sum(x.numel() * x.element_size() for x in self.prepared.values)
        return outputs if name == INFERENCE else outputs + leaves
