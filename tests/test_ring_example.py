# SPDX-License-Identifier: BSD-3-Clause
"""examples/ring_training.py: the losses of one process, however sequences and parameters are split;
and the memory of its layer."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import longattn
import processes
from allocations import peak_bytes, saved_bytes
from longattn.demo.model import Block
from longattn.ring import VirtualRing

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "ring_training.py"
SMALL = ["--steps", "3", "--length", "101", "--batch", "3", "--chunk", "16", "--compare"]
WIDTH, HIDDEN, HEADS = 16, 1024, 2


def load_example():
    specification = importlib.util.spec_from_file_location("ring_training", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


SPLITS = [
    ["--layout", "zigzag"],
    ["--layout", "striped"],
    ["--layout", "contiguous", "--length", "7"],  # shards of 1 and of 2 tokens
    ["--data", "2"],  # contexts of which one group has two, the other one
    ["--data", "2", "--fsdp"],
    ["--fsdp"],
]


def train(rank) -> list:
    example = load_example()
    settings = [example.parse([*SMALL, *split]) for split in SPLITS]
    return [list(example.train(one, torch.device("cpu"))) for one in settings]


def test_losses_are_those_of_one_process(tmp_path):
    of_ranks = processes.run(4, train, tmp_path)
    for split, *histories in zip(SPLITS, *of_ranks, strict=True):
        assert len(histories[0]) == 3
        losses = [[loss for loss, _ in history] for history in histories]
        assert losses.count(losses[0]) == 4, f"{split}: ranks report different losses"
        for step, (loss, alone) in enumerate(histories[0]):
            assert abs(loss - alone) < 2e-5, f"{split}: step {step}"
        assert losses[0][0] - losses[0][2] > 0.1, f"{split}: it does not learn"


def run_example(*arguments, ranks=2):
    paths = [str(Path(longattn.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(ranks), str(EXAMPLE), *SMALL, *arguments),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_torchrun_runs_it():
    done = run_example()
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"step +(\d) +([\d.]+) nats/byte +alone ([\d.]+)", done.stdout)
    assert [step for step, _, _ in lines] == ["0", "1", "2"]
    assert all(abs(float(loss) - float(alone)) < 2e-5 for _, loss, alone in lines)


def test_what_cannot_run_says_why(monkeypatch, capsys):
    example = load_example()
    monkeypatch.delenv("RANK", raising=False)
    assert example.main(SMALL) == 2
    assert "torchrun --nproc-per-node 4" in capsys.readouterr().err
    example.check(example.parse(["--data", "2"]), 4)
    for data, batch in ((3, 3), (0, 2), (4, 2)):
        settings = example.parse(["--data", str(data), "--batch", str(batch)])
        with pytest.raises(SystemExit, match=rf"\(4\) and be at most --batch \({batch}\), got"):
            example.check(settings, 4)


def layer(chunk_size, dtype=torch.float32):
    block = Block(WIDTH, HEADS, chunk_size)
    block.feedforward[1] = torch.nn.Linear(WIDTH, HIDDEN)
    block.feedforward[3] = torch.nn.Linear(HIDDEN, WIDTH)
    return block.to(dtype)


def one_rank(length, dtype=torch.float32):
    """(x, attend) of a ring of one rank"""
    plan = longattn.ring.plan(length, VirtualRing(1))

    def attend(q, k, v):
        [out] = plan.attention([q], [k], [v], longattn.Window(64))
        return out

    return torch.randn(1, length, WIDTH, dtype=dtype, requires_grad=True), attend


def test_chunks_of_a_layer_change_no_number():
    x, attend = one_rank(50, torch.float64)
    block, results = layer(None, torch.float64), []
    for block.chunk_size in (None, 7, 100):
        out = block(x, attend)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])])
    for ours in results[1:]:
        torch.testing.assert_close(ours, results[0])


def test_a_layer_compiles_around_the_ring():
    x, attend = one_rank(50, torch.float64)
    block = layer(16, torch.float64)

    def results(function):
        out = function(x, attend)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *block.parameters()])]

    compiled = results(torch.compile(block, backend="aot_eager"))
    for ours, plain in zip(compiled, results(block), strict=True):
        torch.testing.assert_close(ours, plain)


def test_a_layer_keeps_six_tensors_as_long_as_the_sequence():
    """x, q, k, v, the attention's out and the sum of x and that; lse and a weight on top."""
    x, attend = one_rank(1024)
    block = layer(64)
    small = 1024 * HEADS * 4 + block.to_out.weight.nbytes
    assert saved_bytes(lambda: block(x, attend)) <= 6 * x.nbytes + small
    assert saved_bytes(lambda: layer(None)(x, attend)) > 100 * x.nbytes


def test_peak_memory_of_a_layer_is_that_of_a_chunk():
    def peak(length, chunk_size):
        x, attend = one_rank(length)
        block = layer(chunk_size)

        def step():
            out = block(x, attend)
            out.backward(torch.ones_like(out))

        return peak_bytes(step) / x.nbytes

    # In tensors as long as the sequence: what is kept, what ring attention's backward pass adds up,
    # results in chunks and joined.
    assert peak(4096, 64) < 20
    assert peak(4096, 64) < 1.05 * peak(2048, 64)
    assert peak(1024, 256) > 2 * peak(1024, 64)  # here a chunk's inside is what is seen
    assert peak(4096, None) > 10 * peak(4096, 64)
