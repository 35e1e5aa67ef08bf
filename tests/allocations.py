# SPDX-License-Identifier: BSD-3-Clause
"""How much memory a call takes, counted by torch's CPU allocator rather than by the system."""

import torch


def peak_bytes(call) -> int:
    """The most that was allocated at any time of call() beyond what was there before it."""
    call()  # whatever is made once
    with torch.profiler.profile(profile_memory=True) as profiler:
        call()
    held = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert peak > 0, "the profiler saw no allocation"
    return peak


def saved_bytes(call) -> int:
    """What call() keeps for the backward pass, each storage once; tensors given to it count too."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = call()
    assert kept.requires_grad
    return sum(storages.values())
