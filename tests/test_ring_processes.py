# SPDX-License-Identifier: BSD-3-Clause
"""Ring attention over gloo processes. They are started once for many cases."""

import pytest
import torch.distributed
import torch.multiprocessing

import group_workers
import processes
import ring_workers

needs_distributed = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this build of torch has no torch.distributed"
)


@needs_distributed
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


@needs_distributed
@pytest.mark.parametrize("world_size", (1, 2, 4))
def test_what_a_group_of_any_backend_has_to_do(tmp_path, world_size):
    """tests/test_gpu_torch_ring.py asks the same of NCCL."""
    found = processes.run(world_size, group_workers.work, tmp_path, "cpu")
    assert found == [[check.__name__ for check in group_workers.CHECKS]] * world_size
