# SPDX-License-Identifier: BSD-3-Clause
"""Everything that decides the demo's numbers, apart from the machine's speed."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

MULTIPLES = (1, 2, 4, 8)  # context lengths of the evaluation, in training lengths
SPEED_MULTIPLES = (1, 8, 32)  # context lengths of the speed table, in training lengths
SINK_TOKENS = 4  # StreamingLLM's number


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int | None = None  # None: at most MOST_STEPS, fewer if `seconds` are not enough for them
    seconds: float = 50.0  # for training
    threads: int | None = None  # None: torch's number, or 1 where that trains faster
    seed: int = 0
    length: int = 128  # bytes of context in training; also the window of the evaluation
    batch: int = 16
    contexts: int = 64  # held-out contexts of the evaluation
    output: Path = Path("longattn-demo")

    @property
    def longest_context(self) -> int:
        return max(MULTIPLES + SPEED_MULTIPLES) * self.length


MOST_STEPS = 600


def repeat_command(settings: Settings, steps: int, threads: int) -> str:
    """The command whose losses do not depend on how busy the machine is."""
    options = {"seed": settings.seed, "steps": steps, "threads": threads}
    for name in ("length", "batch", "contexts"):
        if getattr(settings, name) != getattr(Settings(), name):
            options[name] = getattr(settings, name)
    return " ".join(["python -m longattn demo"] + [f"--{k} {v}" for k, v in options.items()])


def parse(arguments: list[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        prog="python -m longattn demo",
        description="Train a small byte-level decoder on the sources of Python's standard library "
        "at a short length, then measure it at up to 8 times that length under several masks.",
    )
    default = Settings()
    parser.add_argument(
        "--steps", type=_at_least(1),
        help=f"training steps (default: {MOST_STEPS}, or what fits into --seconds)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=default.seconds,
        help="time for training where --steps is not given (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=_at_least(1),
        help="threads (default: torch's number, or 1 if that is faster on a busy machine)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument(
        "--length", type=_at_least(2 * SINK_TOKENS), default=default.length,
        help="context length in training, in bytes (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=_at_least(1), default=default.batch,
        help="contexts in a training step (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--contexts", type=_at_least(2), default=default.contexts,
        help="held-out contexts to evaluate (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=default.output,
        help="folder for report.txt, report.png and results.json (default: %(default)s)",
    )  # fmt: skip
    return Settings(**vars(parser.parse_args(arguments)))


def _at_least(least: int):
    def convert(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    convert.__name__ = "integer"  # argparse names the type in its message for `--steps x`
    return convert
