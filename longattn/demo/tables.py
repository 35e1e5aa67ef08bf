# SPDX-License-Identifier: BSD-3-Clause
"""Tables as plain text."""

from __future__ import annotations


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right.

    A row of one cell is a title across the table.
    """
    full = [row for row in [header, *rows] if len(row) > 1]
    widths = [max(len(row[i]) for row in full) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        first, *rest = row
        cells = [first.ljust(widths[0])] + [c.rjust(w) for c, w in zip(rest, widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)
