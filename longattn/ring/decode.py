# SPDX-License-Identifier: BSD-3-Clause
"""`plan.decode`: few queries, which all ranks hold, over keys that are split over ranks.

Each rank attends to its own keys, and the partials of all ranks become one by a log-sum-exp
reduction (Tree Attention, Shyam et al. 2024, arXiv 2408.04093): what travels is as long as the
queries, whatever the number of keys."""

from __future__ import annotations

from itertools import chain

import torch

from longattn import backends, checks, score_arguments, score_checks, sinks, transforms
from longattn.attention import default_scale, encode_head_rules, head_rules
from longattn.engine import scores_of
from longattn.ring import group_cuts
from longattn.ring.attention import in_one_dtype
from longattn.ring.communicator import Communicator
from longattn.ring.loop import problem_at
from longattn.ring.pieces import Geometry, Piece, pieces_of
from longattn.ring.rank import Rank
from longattn.ring.route import Meeting
from longattn.ring.row_rules import obstacle, offset_between, row_rule, seen_rows


def decode(
    geometry: Geometry,
    communicator: Communicator,
    q,
    k,
    v,
    mask,
    *,
    q_start,
    appended,
    bias,
    softmax_scale,
    softcap,
    sink_logits,
    return_lse,
    backend,
    description,
):
    if geometry.borders:
        raise NotImplementedError("plan.decode takes one sequence, not packed ones (cu_seqlens)")
    checks.check_mask(mask)
    checks.check_scale(softmax_scale)
    checks.check_switches(return_lse, None)
    checks.check_is_tensor("q", q)
    if q_start is None:
        raise TypeError("q_start must be an integer: where in the sequence the first query stands")
    q_start, _ = checks.check_positions(False, q_start, 0)
    score_checks.check_sink_values(sink_logits)
    backend = backends.choose(backend, q.device)
    partials = []
    for rank, keys, values, ranges in zip(communicator.ranks, k, v, appended):
        tensors = in_one_dtype((q, keys, values), backend)
        pieces = _pieces(geometry, rank, ranges, tensors[1].shape[1])
        rules = head_rules(mask, q.shape[2])
        first, last = _distances(q_start, q.shape[1], pieces)
        scores = score_arguments.lower_distances(
            tensors[0], bias, softcap, sink_logits, first, last, masks=(mask,)
        )
        if transforms.is_differentiated(*tensors, scores.bias, sink_logits):
            raise NotImplementedError(
                "plan.decode has no gradients: call it under torch.no_grad(), or use plan.attention"
            )
        scale = default_scale(q, softmax_scale)
        scores = scores_of(tensors[0], scale, scores.softcap, scores.bias, scores.bias_form)
        me = Rank(rank, (), communicator, backend, *tensors, scores, None)
        partials.append(_partial(me, list(_meetings(q_start, q.shape[1], pieces, rules))))
    with communicator.in_call(description, q.device):
        _check_claims(geometry.seq_len, communicator, appended, q.device)
        out, lse = _merged(communicator, partials)
    if sink_logits is not None:
        out, lse = sinks.with_sinks(out, lse, sink_logits)
    out = out.to(tensors[0].dtype)
    return (out, lse) if return_lse else out


def check_own_part(
    geometry: Geometry, communicator: Communicator, q, k, v, appended, sink_logits, backend
):
    """What may be wrong on this rank alone. q, k, v, appended: lists."""
    checks.check_is_tensor("q", q[0])
    score_checks.check_sink_values(sink_logits)
    backend = backends.choose(backend, q[0].device)
    for rank, *tensors, ranges in zip(communicator.ranks, q, k, v, appended):
        keys = in_one_dtype(tensors, backend)[1]
        _pieces(geometry, rank, ranges, keys.shape[1])


def _check_claims(seq_len: int, communicator: Communicator, appended: list, device) -> None:
    """Rows that several ranks appended count several times. On the CPU, where it costs a collective
    of 16 bytes; elsewhere the host would wait for the device."""
    if device.type != "cpu":
        return
    mine = []
    for ranges in appended:
        ranges = [ranges] if isinstance(ranges, range) else ranges
        last = max((r[-1] for r in ranges if len(r)), default=seq_len - 1)
        mine.append(torch.tensor([sum(map(len, ranges)), last]))
    counts, lasts = zip(*(claim.tolist() for claim in communicator.all_gather(mine)))
    if sum(counts) > max(lasts) + 1 - seq_len:
        raise ValueError(
            f"ranks appended {list(counts)} rows, though there are {max(lasts) + 1 - seq_len} "
            f"positions from {seq_len} to {max(lasts)}: each position belongs to one rank"
        )


def _pieces(geometry: Geometry, rank: int, appended, rows: int) -> list:
    """Those of the plan, then those that came later."""
    if not isinstance(appended, (range, list, tuple)):
        raise TypeError(
            f"appended must be a range of positions or a list of them, got {appended!r}"
        )
    appended = [appended] if isinstance(appended, range) else list(appended)
    pieces = list(pieces_of(geometry, rank))
    for positions in appended:
        if not isinstance(positions, range):
            raise TypeError(
                "appended must be a range of positions or a list of them, got "
                f"{type(positions).__name__}"
            )
        if len(positions) and (positions.step < 1 or positions.start < geometry.seq_len):
            raise ValueError(
                f"appended positions must rise and come after the plan's {geometry.seq_len}, got "
                f"{positions}"
            )
        if len(positions):
            step = positions.step if len(positions) > 1 else 1
            pieces.append(Piece(positions.start, step, len(positions)))
    if len(appended) > 1 and len(set(chain(*appended))) < sum(map(len, appended)):
        raise ValueError(f"appended ranges of rank {rank} overlap, got {appended}")
    expected = sum(piece.length for piece in pieces)
    if rows != expected:
        raise ValueError(
            f"k and v of rank {rank} must have {expected} rows, {geometry.length(rank)} of the "
            f"plan and {expected - geometry.length(rank)} appended, got {rows}"
        )
    return pieces


def _distances(q_start: int, q_len: int, pieces: list) -> tuple:
    """The smallest and the largest position(query) - position(key)."""
    if not pieces:
        return 0, 0
    begin = min(piece.start for piece in pieces)
    end = max(piece.start + (piece.length - 1) * piece.step for piece in pieces)
    return q_start - end, q_start + max(q_len - 1, 0) - begin


def _meetings(q_start: int, q_len: int, pieces: list, rules):
    """Queries are neighbours, so that keys with a larger step meet them one by one."""
    behind, ahead = (max(reach) for reach in zip(*(rule.reach() for rule in rules)))
    for begin, k, cut in _parts(pieces, rules, q_start - behind, q_start + q_len - 1 + ahead):
        rows = q_len if k.step == 1 else 1
        for row in range(0, q_len, rows):
            q = Piece(q_start + row, k.step, rows)
            here = [group_cuts.rule_between(rule, q, k) for rule in rules] if cut else rules
            offset = offset_between(q, k, here)
            lowered = [row_rule(rule, offset, k) for rule in here]
            if any(seen_rows(rule, offset.diagonal, rows, k.length) for rule in set(lowered)):
                q_rows, k_rows = (row, row + rows), (begin, begin + k.length)
                yield Meeting(q_rows, k_rows, k.step, offset, encode_head_rules(lowered))


def _parts(pieces: list, rules, first: int, last: int):
    """(first row, part, whether it was cut) of what the pieces have of these positions, cut where
    their rows cannot say groups."""
    begin = 0
    for piece in pieces:
        low, high = piece.rows_within(first, last)
        within = piece.rows(low, high)
        cut = obstacle(rules, piece.step) is not None
        place = begin + low
        for part in group_cuts.cut(within, rules) if cut else [within] * (high > low):
            yield place, part, cut
            place += part.length
        begin += piece.length


def _partial(me: Rank, meetings) -> tuple:
    """-> (out, lse) over the rank's own keys, in the accumulator's dtype."""
    out, lse = me.empty_result()
    for meeting in meetings:
        rows = slice(*meeting.q_rows)
        me.run_forward(*problem_at(me, meeting, [me.k, me.v]), out[:, rows], lse[:, :, rows])
    return out, lse


def _merged(communicator: Communicator, partials: list) -> tuple:
    """The partials of all ranks as one."""
    outs, lses = zip(*partials)
    tops = communicator.all_reduce(list(lses), "max")
    weighed = []
    for out, lse, top in zip(outs, lses, tops):
        weight = torch.exp(lse - top.masked_fill(top == float("-inf"), 0.0))
        weight = weight.transpose(1, 2).unsqueeze(-1)  # [batch, q_len, heads, 1]
        weighed.append(torch.cat([out * weight, weight], dim=-1))
    total = communicator.all_reduce(weighed)[0]
    sums, weights = total[..., :-1], total[..., -1:]
    out = sums / weights.masked_fill(weights == 0, 1.0)  # no rank saw a key: 0
    return out, tops[0] + torch.log(weights.squeeze(-1).transpose(1, 2))
