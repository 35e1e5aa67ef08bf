# SPDX-License-Identifier: BSD-3-Clause
"""examples/ring_training.py: the losses of one process, however work is split."""

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

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "ring_training.py"
SMALL = ["--steps", "3", "--length", "101", "--batch", "3", "--chunk", "16", "--compare"]


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
