# SPDX-License-Identifier: BSD-3-Clause
"""A folder of Markdown and pictures from saved runs: `python -m bench report FILE... --out DIR`."""

from bench.report.page import write

__all__ = ["write"]
