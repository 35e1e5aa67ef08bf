# SPDX-License-Identifier: BSD-3-Clause
"""Real text without a network: sources and docstrings of Python's standard library, as bytes."""

from __future__ import annotations

import dataclasses
import sysconfig
from pathlib import Path

import torch

# Not the library's own prose and code: installed packages, tests, tables, bundled applications.
# Some distributions leave several of these out, so the text is the same with and without them.
LEFT_OUT = {
    "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings",
    "pydoc_data", "turtledemo", "ensurepip", "__pycache__",
}  # fmt: skip
HELD_OUT_EVERY = 10  # one file in ten is never trained on
SMALLEST_TEXT = 200_000  # bytes; any complete standard library has many times more


class NotEnoughText(RuntimeError):
    """This Python carries too few sources to train on, or to cut contexts of the length from."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Whole files are on one side or the other, so no held-out file was seen in part."""

    train: torch.Tensor  # [bytes] uint8
    held_out: torch.Tensor  # [bytes] uint8
    files: int

    def __str__(self) -> str:
        return (
            f"{self.files} files of Python's standard library: {len(self.train):,} bytes to train "
            f"on, {len(self.held_out):,} held out"
        )


def library_files(folder: Path) -> list[Path]:
    """The library's .py files in an order that depends on their names alone."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if not LEFT_OUT.intersection(path.relative_to(folder).parts[:-1])
    )
    return [folder / name for name in names]


def read_corpus(folder: Path | None = None, *, longest: int = 1) -> Corpus:
    """`longest`: bytes that the evaluation needs in one piece."""
    folder = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    files = library_files(folder)
    for number, path in enumerate(files):
        try:
            parts[number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1].append(path.read_bytes())
        except OSError:  # a dangling link or an unreadable file costs its own text only
            continue
    train, held_out = (b"\n".join(parts[side]) for side in (False, True))
    if len(train) + len(held_out) < SMALLEST_TEXT:
        raise NotEnoughText(
            f"it trains on the sources of Python's standard library, but {folder} holds only "
            f"{len(train) + len(held_out)} bytes of them; at least {SMALLEST_TEXT} are needed"
        )
    if len(held_out) < longest:
        raise NotEnoughText(
            f"the longest context has {longest} bytes, but only {len(held_out)} bytes of text are "
            "held out; a smaller --length fits"
        )
    return Corpus(_as_tensor(train), _as_tensor(held_out), len(files))


def unigram_loss(corpus: Corpus) -> float:
    """Nats per held-out byte of a model that knows only how frequent each byte is."""
    counts = torch.bincount(corpus.train.long(), minlength=256).double() + 1  # unseen: not zero
    log_share = (counts / counts.sum()).log()
    return -log_share[corpus.held_out.long()].mean().item()


def bigram_loss(corpus: Corpus) -> float:
    """Nats per held-out byte of a model that knows how frequent each byte is after each other."""
    pairs = corpus.train[:-1].long() * 256 + corpus.train[1:].long()
    counts = torch.bincount(pairs, minlength=256 * 256).double().view(256, 256) + 0.1
    log_share = (counts / counts.sum(dim=1, keepdim=True)).log().flatten()
    held_out_pairs = corpus.held_out[:-1].long() * 256 + corpus.held_out[1:].long()
    return -log_share[held_out_pairs].mean().item()


def _as_tensor(text: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)
