# SPDX-License-Identifier: BSD-3-Clause
"""Decoders side by side: each is computed by one thread, so their number changes no result."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import torch

MOST = 8  # there is no work for more


@contextlib.contextmanager
def workers(count: int | None):
    """A pool of `count` threads; None: as many as torch would use."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(
        min(MOST, count or before), initializer=torch.set_num_threads, initargs=(1,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt nothing more is begun
        torch.set_num_threads(before)
