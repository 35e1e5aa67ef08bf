# SPDX-License-Identifier: BSD-3-Clause
"""Ranks as processes of this machine: a group of any size, for one function."""

import datetime
import multiprocessing
import os
import pickle
import queue
import traceback

import torch
import torch.distributed as dist

START_AND_STOP = 60.0  # seconds that a busy machine may take beyond the group's own timeout

# Ranks are forks of a process that has imported torch once, and has no threads.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torch.distributed", "longattn"])


def run(
    world_size: int, function, folder, *arguments, timeout=60.0, killed=(), backend="gloo"
) -> list:
    """[function(rank, *arguments) on each rank]; None for the ranks `killed`, which have to die.

    The function must be a module's own. An exception of a rank is raised here, with its traceback.
    """
    store = os.path.join(folder, f"store-{function.__name__}")
    results = _context.Queue()
    common = (results, function, world_size, store, timeout, backend, arguments)
    processes = [_context.Process(target=_work, args=(r, *common)) for r in range(world_size)]
    for process in processes:
        process.start()
    try:
        found = {}
        while len(found) < world_size - len(killed):
            rank, result, error = results.get(timeout=timeout + START_AND_STOP)
            assert error is None, f"rank {rank} failed:\n{error}"
            found[rank] = pickle.loads(result)
        for rank, process in enumerate(processes):
            process.join(START_AND_STOP)
            assert (process.exitcode != 0) == (rank in killed), f"rank {rank}: {process.exitcode}"
    except queue.Empty:
        raise AssertionError(f"only ranks {sorted(found)} of {world_size} answered") from None
    finally:
        for process in processes:
            process.kill()
    return [found.get(rank) for rank in range(world_size)]


def _work(rank, results, function, world_size, store, timeout, backend, arguments):
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            backend,
            init_method=f"file://{store}",
            rank=rank,
            world_size=world_size,
            timeout=datetime.timedelta(seconds=timeout),
        )
        # By value: torch would hand over tensors in memory that dies with this process.
        result = (rank, pickle.dumps(function(rank, *arguments)), None)
        dist.destroy_process_group()
    except BaseException:  # the reader has to hear of everything
        result = (rank, None, traceback.format_exc())
    results.put(result)
