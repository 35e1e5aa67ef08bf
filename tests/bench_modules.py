# SPDX-License-Identifier: BSD-3-Clause
"""Modules of bench/, which is not installed, for tests."""

import importlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def load(name: str):
    """bench.`name`; longattn stays the one under test, which is imported already."""
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(f"bench.{name}")
    finally:
        sys.path.remove(str(ROOT))
