# SPDX-License-Identifier: BSD-3-Clause
"""How many pairs of a query and a key a mask shows: what work is counted by."""

from __future__ import annotations


def causal_pairs(length: int) -> int:
    """Of one head, as all functions here."""
    return length * (length + 1) // 2


def lambda_pairs(length: int, window: int, sink_tokens: int) -> int:
    """The last `window` keys and the first `sink_tokens`."""
    short = min(window, length)
    near = causal_pairs(short) + (length - short) * window
    # Beyond the window query window + t has t + 1 keys, the sinks among them.
    beyond = length - short
    growing = min(sink_tokens, beyond)
    return near + causal_pairs(growing) + (beyond - growing) * sink_tokens


def group_pairs(length: int, size: int, shift: int = 0) -> int:
    """Causal within groups whose borders are at shift + t * size."""
    first = min(shift % size, length)
    whole, last = divmod(length - first, size)
    return causal_pairs(first) + whole * causal_pairs(size) + causal_pairs(last)


def dilated_pairs(length: int, segment_length: int, rate: int, heads: int) -> int:
    """One causal branch over all heads; head h keeps the rows h mod rate of every segment."""
    whole, last = divmod(length, segment_length)
    pairs = 0
    for head in range(heads):
        offset = head % rate
        rows = [len(range(offset, n, rate)) for n in (segment_length, last)]
        pairs += whole * causal_pairs(rows[0]) + causal_pairs(rows[1])
    return pairs
