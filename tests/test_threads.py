# SPDX-License-Identifier: BSD-3-Clause
"""Threads: the same bits for any number of them, after a fork, and from two Python threads."""

import os
import signal
import threading
import time

import pytest
import torch

import inputs
import longattn
from cases import Case
from longattn.masks import Causal, Window

CASES = [
    Case("threads, sinks", Window(70, sink_tokens=4), 500, batch=2, q_heads=4, kv_heads=2),
    Case("threads, one head", Causal(), 700, q_heads=1),
    Case("threads, decode", Causal(), 1, 9000, q_heads=16, kv_heads=4, head_dim=64),
    Case("threads, packed", Causal(), q_lengths=(300, 1, 130), q_heads=4, kv_heads=1),
    Case("threads, heads enough", Causal(), 200, q_heads=8),
    Case("threads, packed heads", Window(70), q_lengths=(300, 0, 130), q_heads=8, kv_heads=4),
]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def step(case, tensors):
    """Forward and backward: every tensor that the engine writes."""
    out, lse = longattn.attention(
        *tensors, case.mask, return_lse=True, **inputs.call_arguments(case)
    )
    d_out = inputs.random(out.shape, out.dtype, "d_out")
    d_lse = inputs.random(lse.shape, lse.dtype, "d_lse")
    return (out, lse, *torch.autograd.grad((out, lse), tensors, (d_out, d_lse)))


def dilated_step(tensors):
    out = longattn.dilated_attention(*tensors, (64, 512), (1, 3))
    return (out, *torch.autograd.grad(out.square().sum(), tensors))


def assert_same_bits(actual, expected, what):
    for name, ours, theirs in zip(("out", "lse", "dq", "dk", "dv"), actual, expected):
        assert torch.equal(ours, theirs), f"{name} differs {what}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(case, dtype):
    tensors = inputs.qkv(case, dtype)
    torch.set_num_threads(1)
    expected = step(case, tensors)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_same_bits(step(case, tensors), expected, f"with {threads} threads")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_repeats_give_the_same_bits(case):
    tensors = inputs.qkv(case, torch.float32)
    torch.set_num_threads(2)
    expected = step(case, tensors)
    for repeat in range(5):
        assert_same_bits(step(case, tensors), expected, f"in repeat {repeat}")


def test_dilated_gives_the_same_bits():
    tensors = inputs.qkv(Case("dilated", Causal(), 600, q_heads=4), torch.float32)
    torch.set_num_threads(1)
    expected = dilated_step(tensors)
    torch.set_num_threads(2)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(dilated_step(tensors), expected))


def test_two_python_threads_at_once():
    """Two callers with different work each get the bits they get alone."""
    torch.set_num_threads(2)
    work = [(case, inputs.qkv(case, torch.float32)) for case in CASES[:2]]
    expected = [step(*item) for item in work]
    start = threading.Barrier(len(work))
    failures = []

    def repeat(index):
        try:
            start.wait(timeout=30)
            for _ in range(8):
                assert_same_bits(step(*work[index]), expected[index], "beside another thread")
        except BaseException as error:  # a thread's exception must reach the test
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads), "the threads block one another"
    assert not failures, failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use():
    """A child of a process that has used its threads can use attention too (DataLoader does)."""
    torch.set_num_threads(2)
    case = CASES[0]
    tensors = inputs.qkv(case, torch.float32, requires_grad=False)
    expected = longattn.attention(*tensors, case.mask)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            same = bytes(expected.numpy()) == bytes(longattn.attention(*tensors, case.mask).numpy())
            code = 0 if same else 2
        finally:
            os._exit(code)
    status = wait(child, seconds=60)
    assert status is not None, "the child hangs"
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, f"the child ended with {status}"
    assert torch.equal(longattn.attention(*tensors, case.mask), expected), "the parent after a fork"


def wait(child, seconds):
    """The status of the child, or None if it does not end in time."""
    for _ in range(10 * seconds):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
