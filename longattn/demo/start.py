# SPDX-License-Identifier: BSD-3-Clause
"""What comes before every demo: what it needs is there, its arguments, its text."""

from __future__ import annotations

import importlib.util
import sys
from typing import Callable

NEEDED = ("tqdm", "matplotlib")  # beyond longattn's own dependencies


class CannotRun(Exception):
    """Something that a demo needs is missing; one sentence says what."""


def launch(name: str, parse: Callable, work: Callable, arguments: list[str] | None) -> int:
    """work(settings, corpus). 0: done. 1: it cannot run; one sentence on stderr says why."""
    try:
        work(*prepare(parse, arguments))
    except CannotRun as reason:
        print(f"the {name} cannot run: {reason}", file=sys.stderr)
        return 1
    return 0


def prepare(parse: Callable, arguments: list[str] | None) -> tuple:
    """(settings, corpus). Wrong arguments exit as argparse does."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotRun(f"{' and '.join(missing)} must be installed: pip install longattn[demo]")

    from longattn import backends
    from longattn.demo.files import why_not_writable
    from longattn.demo.text import NotEnoughText, read_corpus

    settings = parse(arguments)
    usable, reason = backends.available("cpu")
    if not usable:
        raise CannotRun(reason)
    try:
        corpus = read_corpus(longest=settings.longest_context)
    except NotEnoughText as error:
        raise CannotRun(str(error)) from error
    reason = why_not_writable(settings.output)
    if reason:
        raise CannotRun(reason)
    return settings, corpus
