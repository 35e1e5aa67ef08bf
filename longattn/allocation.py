# SPDX-License-Identifier: BSD-3-Clause
"""Memory of results. The system makes fresh memory page by page as it is touched: for a large
tensor on the CPU that takes longer than the memory traffic, unless it is asked for large pages."""

from __future__ import annotations

from typing import Optional

import torch

from longattn import native

LARGE_BYTES = 2**22  # from here on a tensor is worth large pages


def in_large_pages(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, which nobody has written to yet; a hint that changes no contents."""
    size = tensor.numel() * tensor.element_size()
    if size < LARGE_BYTES or tensor.device.type != "cpu":
        return tensor
    if not isinstance(tensor, torch._subclasses.FakeTensor):
        native.module().advise_huge_pages(tensor.data_ptr(), size)
    return tensor


def empty(like: torch.Tensor, shape, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return in_large_pages(like.new_empty(shape, dtype=dtype))


def zeros(like: torch.Tensor, shape, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
    return empty(like, shape, dtype).zero_()


def converted(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """x itself where it has the dtype."""
    return x if x.dtype == dtype else in_large_pages(torch.empty_like(x, dtype=dtype)).copy_(x)
