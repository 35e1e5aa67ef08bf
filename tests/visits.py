# SPDX-License-Identifier: BSD-3-Clause
"""Which tiles the CUDA kernels must visit for a case, cut out of what the mask shows."""

from typing import NamedTuple

import torch
from torch.nn import functional

from cases import Dilated
from longattn import reference


class Shown(NamedTuple):
    """What a head shows in one sequence."""

    pairs: torch.Tensor  # bool [q_len, kv_len]
    diagonal: int  # the key at the position of query 0, counted in rows of the sequence


def tiles_with_a_visible_pair(pairs, queries: int, keys: int) -> int:
    """How many tiles of a bool matrix [q_len, kv_len] hold a True."""
    return sum(
        bool(tile.any()) for rows in pairs.split(queries) for tile in rows.split(keys, dim=1)
    )


def tiles_on_diagonals(shown: Shown, size: int) -> int:
    """Likewise with tiles of keys that lie a whole number of tiles behind those of queries."""
    padding = -shown.diagonal % size
    return tiles_with_a_visible_pair(functional.pad(shown.pairs, (padding, 0)), size, size)


def shown_in_sequences(case):
    """By the definition of the mask."""
    for sequence, (q_len, kv_len) in enumerate(case.sequences):
        q_start, k_start = case.positions(sequence)
        i, j = q_start + torch.arange(q_len), k_start + torch.arange(kv_len)
        for head in range(case.q_heads):
            yield Shown(reference.visible(case.mask, i, j, head), q_start - k_start)


def shown_in_residues(case):
    """Likewise for a dilated call: rows of one segment and residue are a sequence."""
    kv_len = case.k_shape[1]
    q_start = case.k_start + kv_len - case.q_len if case.q_start is None else case.q_start
    i, j = q_start + torch.arange(case.q_len), case.k_start + torch.arange(kv_len)
    for w, r in zip(case.segment_lengths, case.dilation_rates):
        for head in range(case.q_heads):
            offset = head % r if case.head_offset == "mod" else head // -(-case.q_heads // r)
            for segment in torch.cat((i, j)).div(w, rounding_mode="floor").unique().tolist():
                rows, keys = (x[(x // w == segment) & (x % w % r == offset)] for x in (i, j))
                if not (len(rows) and len(keys)):
                    continue
                everything = torch.ones(len(rows), len(keys), dtype=torch.bool)
                for _ in range(case.batch):
                    yield Shown(
                        rows[:, None] >= keys if case.causal else everything,
                        int(rows[0] - keys[0]) // r,
                    )


def wrong_visits(visits: dict, case) -> str:
    """What differs between `visits`, made by _simt.take_visits, and the case; "" if nothing."""
    everything = shown_in_residues(case) if isinstance(case, Dilated) else shown_in_sequences(case)
    shown = [each for each in everything if each.pairs.numel()]
    for kernel, (queries, keys, counted) in visits.items():
        if kernel == "bias_gradient":
            expected = sum(tiles_on_diagonals(each, queries) for each in shown)
        else:
            expected = sum(tiles_with_a_visible_pair(each.pairs, queries, keys) for each in shown)
        if counted != expected:
            return f"{kernel}: {counted} visits of tiles, of which {expected} hold a visible pair"
    return ""
