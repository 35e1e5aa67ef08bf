# SPDX-License-Identifier: BSD-3-Clause
"""Which tiles the CUDA kernels must visit for a case, cut out of what the mask shows."""

import torch

from cases import Dilated
from longattn import reference


def tiles_with_a_visible_pair(shown, queries: int, keys: int) -> int:
    """How many tiles of a bool matrix [q_len, kv_len] hold a True."""
    return sum(
        bool(tile.any()) for rows in shown.split(queries) for tile in rows.split(keys, dim=1)
    )


def shown_pairs(case):
    """What each head shows in each sequence, [q_len, kv_len], from the definition of the mask."""
    for sequence, (q_len, kv_len) in enumerate(case.sequences):
        q_start, k_start = case.positions(sequence)
        i, j = q_start + torch.arange(q_len), k_start + torch.arange(kv_len)
        for head in range(case.q_heads):
            yield reference.visible(case.mask, i, j, head)


def shown_residues(case):
    """Likewise for a dilated call: rows of one segment and residue are a sequence."""
    kv_len = case.k_shape[1]
    q_start = case.k_start + kv_len - case.q_len if case.q_start is None else case.q_start
    i, j = q_start + torch.arange(case.q_len), case.k_start + torch.arange(kv_len)
    for w, r in zip(case.segment_lengths, case.dilation_rates):
        for head in range(case.q_heads):
            offset = head % r if case.head_offset == "mod" else head // -(-case.q_heads // r)
            for segment in torch.cat((i, j)).div(w, rounding_mode="floor").unique().tolist():
                rows, keys = (x[(x // w == segment) & (x % w % r == offset)] for x in (i, j))
                everything = torch.ones(len(rows), len(keys), dtype=torch.bool)
                for _ in range(case.batch):
                    yield rows[:, None] >= keys if case.causal else everything


def wrong_visits(visits: dict, case) -> str:
    """What differs between `visits`, made by _simt.take_visits, and the case; "" if nothing."""
    shown = shown_residues(case) if isinstance(case, Dilated) else shown_pairs(case)
    pairs = [each for each in shown if each.numel()]
    for kernel, (queries, keys, counted) in visits.items():
        expected = sum(tiles_with_a_visible_pair(each, queries, keys) for each in pairs)
        if counted != expected:
            return f"{kernel}: {counted} visits of tiles, of which {expected} hold a visible pair"
    return ""
