# SPDX-License-Identifier: BSD-3-Clause
"""Ring attention over gloo processes. They are started once: they run all cases."""

import pytest
import torch.distributed
import torch.multiprocessing

import ring_workers


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this build of torch has no torch.distributed"
)
def test_processes(tmp_path):
    torch.multiprocessing.spawn(
        ring_workers.work, args=(tmp_path,), nprocs=ring_workers.WORLD_SIZE
    )
    reports = [(tmp_path / f"{rank}.txt").read_text() for rank in range(ring_workers.WORLD_SIZE)]
    failures = [line for report in reports for line in report.split("\n") if "failed" in line]
    assert not failures, "\n\n".join(reports)
    for members in ring_workers.GROUPS:
        for rank in members:
            assert reports[rank].count(f"in {members}") == len(ring_workers.TESTS)
