# SPDX-License-Identifier: BSD-3-Clause
"""How close is close: no error of ours may exceed twice that of plain PyTorch in the same dtype.

Against a float64 reference: err <= 2 * err_eager + 2 * max|(x + 0.3 - 0.3) - x|, the rule of the
FlashAttention tests. float64 itself: 1e-10. lse: 1e-4 + 4e-6 * max|score|.

In float32 two units in the last place of the largest element are always permitted: in tensors of a
few elements eager code may be exact by chance.
"""

import math

import torch

FLOAT64_ABSOLUTE = 1e-10
FLOAT32_FACTOR = 2


def bound_of(exact, eager, dtype) -> float:
    """The largest permitted error of a tensor; `eager` are twins made by plain PyTorch."""
    if dtype == torch.float64:
        return FLOAT64_ABSOLUTE * max(1.0, _largest(exact))
    rounded = exact.to(dtype)
    wobble = _largest((rounded + 0.3 - 0.3) - rounded)
    eager_error = max(_largest(twin.double() - exact) for twin in eager)
    if dtype == torch.float32:
        last_place = torch.finfo(dtype).eps * _largest(exact)
        return FLOAT32_FACTOR * eager_error + 2 * max(wobble, last_place)
    return 2 * eager_error + 2 * wobble


def assert_close(actual, eager, exact, name, slack=0.0) -> None:
    """`actual` against the float64 `exact`, measured by the error of the `eager` twins.

    `slack` is further permitted error, relative to the largest element or to 1.
    """
    assert actual.shape == exact.shape, f"{name}: shape {actual.shape}, expected {exact.shape}"
    bound = bound_of(exact, eager, actual.dtype) + slack * max(1.0, _largest(exact))
    _assert_within(actual, exact, bound, name)


def assert_lse_close(actual, exact, largest_score, rounding=0.0) -> None:
    """Log-sum-exp: empty rows must be empty in both, the rest is close in absolute terms.

    `rounding`: what scores may be off by in relation to the largest, where q and k were rounded on
    the way.
    """
    assert actual.shape == exact.shape, f"lse: shape {actual.shape}, expected {exact.shape}"
    empty = exact == -math.inf
    wrong = (actual == -math.inf) != empty
    assert not wrong.any(), (
        f"lse: {int(wrong.sum())} of {wrong.numel()} rows are empty on one side only, "
        f"first at {_index(wrong, 0)}: got {actual[wrong][0].item()}, "
        f"expected {exact[wrong][0].item()}"
    )
    bound = 1e-4 + 4e-6 * largest_score
    if actual.dtype == torch.float64:
        bound = FLOAT64_ABSOLUTE * max(1.0, largest_score)
    bound += rounding * largest_score
    _assert_within(actual.masked_fill(empty, 0.0), exact.masked_fill(empty, 0.0), bound, "lse")


def assert_zero(actual, where, name) -> None:
    """Exactly zero at the places `where` (broadcast from the left)."""
    chosen = actual[where]
    bad = chosen != 0  # NaN != 0 holds too
    assert not bad.any(), (
        f"{name}: {int(bad.sum())} elements of rows that see nothing are not 0, "
        f"for example {chosen[bad][0].item()}"
    )


def _assert_within(actual, exact, bound, name) -> None:
    not_finite = ~actual.isfinite()
    assert not not_finite.any(), (
        f"{name}: {int(not_finite.sum())} of {actual.numel()} elements are not finite, "
        f"first at {_index(not_finite, 0)}: {actual[not_finite][0].item()}"
    )
    error = (actual.double() - exact.double()).abs()
    if error.numel() == 0 or error.max() <= bound:
        return
    worst = int(error.argmax())
    place = _index(torch.ones_like(error, dtype=torch.bool), worst)
    raise AssertionError(
        f"{name}: error {error.max().item():.3e} exceeds {bound:.3e} at {place}: "
        f"got {actual[place].item():.9g}, expected {exact[place].item():.9g}; "
        f"{int((error > bound).sum())} of {error.numel()} elements are too far"
    )


def _largest(tensor) -> float:
    return tensor.detach().abs().max().item() if tensor.numel() else 0.0


def _index(where, which) -> tuple:
    return tuple(where.nonzero()[which].tolist())
