# SPDX-License-Identifier: BSD-3-Clause
"""Everything that decides a demo's numbers, apart from the machine's speed."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import ClassVar

MULTIPLES = (1, 2, 4, 8)  # context lengths of the evaluation, in training lengths
SPEED_MULTIPLES = (1, 8, 32)  # context lengths of the speed table, in training lengths
SINK_TOKENS = 4  # StreamingLLM's number


@dataclasses.dataclass(frozen=True)
class Settings:
    command: ClassVar[str] = "demo"
    multiples: ClassVar[tuple] = MULTIPLES
    most_steps: ClassVar[int] = 600

    steps: int | None = None  # None: at most most_steps, fewer if `seconds` are not enough
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


def repeat_command(settings: Settings, steps: int, threads: int | None = None) -> str:
    """A command whose losses do not depend on how busy the machine is; threads: if they matter."""
    options = {"seed": settings.seed, "steps": steps}
    if threads is not None:
        options["threads"] = threads
    for name in ("length", "batch", "contexts"):
        if getattr(settings, name) != getattr(type(settings), name):
            options[name] = getattr(settings, name)
    written = [f"--{name} {value}" for name, value in options.items()]
    return " ".join([f"python -m longattn {settings.command}", *written])


def parse(arguments: list[str] | None) -> Settings:
    return parse_as(
        Settings,
        "Train a small byte-level decoder on the sources of Python's standard library at a short "
        "length, then measure it at up to 8 times that length under several masks.",
        arguments,
    )


def parse_as(
    kind: type[Settings],
    description: str,
    arguments: list[str] | None,
    threads: str = "threads (default: torch's number, or 1 if that is faster on a busy machine)",
) -> Settings:
    """threads: what --threads says of itself."""
    default = kind()
    parser = argparse.ArgumentParser(
        prog=f"python -m longattn {kind.command}", description=description
    )
    parser.add_argument(
        "--steps", type=_at_least(1),
        help=f"training steps (default: {kind.most_steps}, or what fits into --seconds)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=default.seconds,
        help="time for training where --steps is not given (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threads", type=_at_least(1), help=threads)
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
    return kind(**vars(parser.parse_args(arguments)))


def _at_least(least: int):
    def convert(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    convert.__name__ = "integer"  # argparse names the type in its message for `--steps x`
    return convert
