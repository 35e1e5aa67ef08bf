# SPDX-License-Identifier: BSD-3-Clause
"""What a demo leaves in its output folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Callable

REPORT, PICTURE, RESULTS = FILES = ("report.txt", "report.png", "results.json")


def why_not_writable(folder: Path) -> str | None:
    """A sentence where the results could not be saved, which should not turn out after training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for old in (folder / name for name in FILES):
            if old.exists():
                old.open("r+b").close()
    except OSError as error:
        return f"--output {folder} cannot be written: {error.strerror} ({error.filename})"
    return None


def save(folder: Path, page: str, numbers: dict, draw: Callable[[Path], None]) -> None:
    """The report (also printed), its numbers and its picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(page, encoding="utf-8")
    (folder / RESULTS).write_text(json.dumps(numbers, indent=1) + "\n")
    draw(folder / PICTURE)
    print("\n" + page)
    print("Saved " + ", ".join(str(folder / name) for name in FILES))
