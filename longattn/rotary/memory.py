# SPDX-License-Identifier: BSD-3-Clause
"""Whether two tensors share elements, as far as addresses and strides tell."""

from __future__ import annotations

import torch


def shares_elements(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Exact for views with the same strides, as slices of one qkv tensor are; else whether both
    begin in one place."""
    if a.dtype != b.dtype or not a.numel() or not b.numel():
        return False
    if a.stride() != b.stride() or a.dim() != b.dim():
        return a.data_ptr() == b.data_ptr()
    step = b.data_ptr() - a.data_ptr()
    if step % a.element_size():
        return False
    dims = sorted(zip(a.stride(), a.shape, b.shape), reverse=True)
    return _reaches(step // a.element_size(), dims)


def _reaches(step: int, dims: list) -> bool:
    """Whether `step` is a sum of strides times (an index of a - an index of b). Larger strides step
    over all that smaller ones reach, so that next to the quotient there is no other candidate."""
    if not dims:
        return step == 0
    (stride, of_a, of_b), *smaller = dims
    if stride == 0:
        return _reaches(step, smaller)
    nearest = step // stride
    return any(
        1 - of_b <= count <= of_a - 1 and _reaches(step - count * stride, smaller)
        for count in (nearest, nearest + 1)
    )
