# SPDX-License-Identifier: BSD-3-Clause
"""Streams of CUDA without a GPU: what is queued beside the work of the host runs as late as the
program allows, when somebody waits for it."""

import contextlib
import threading

_running = threading.RLock()
_here = threading.local()


class Event:
    def __init__(self, stream=None):
        self.stream, self.place = stream, 0 if stream is None else len(stream.queued)

    def happen(self) -> None:
        if self.stream is not None:
            with _running:
                self.stream.run(self.place)


class Stream:
    """Work that is queued, and how much of it has run."""

    def __init__(self, device=None):
        self.queued, self.done, self.waited_for_host = [], 0, False
        self.kept = []  # tensors that were left to it

    def wait_event(self, event: Event) -> None:
        self.queued.append(event.happen)

    def wait_stream(self, other) -> None:
        if isinstance(other, Host):
            self.waited_for_host = True
        else:
            self.wait_event(other.record_event())

    def record_event(self) -> Event:
        return Event(self)

    def run(self, place: int) -> None:
        while self.done < place:
            self.done += 1
            self.queued[self.done - 1]()


class Host(Stream):
    """The stream that computes: its work has run when it was queued."""

    def wait_event(self, event: Event) -> None:
        event.happen()

    def record_event(self) -> Event:
        return Event()


def current_stream(device=None) -> Stream:
    if not hasattr(_here, "stream"):
        _here.stream = Host()
    return _here.stream


@contextlib.contextmanager
def stream(chosen: Stream):
    before = current_stream()
    _here.stream = chosen
    try:
        yield
    finally:
        _here.stream = before


def queue(work) -> None:
    current_stream().queued.append(work)


def record_stream(tensor, chosen: Stream) -> None:
    chosen.kept.append(tensor)
