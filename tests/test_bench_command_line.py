# SPDX-License-Identifier: BSD-3-Clause
"""The command line of bench/: what it refuses, and what it prints."""

import json

import pytest
import torch

from bench import record, standard
from bench import run as run_module
from bench.__main__ import main
from bench.contenders.chunked import CHUNKED
from bench.measure import Job
from bench_shapes import tiny


def test_files_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "other.json"
    with pytest.raises(SystemExit, match="cannot be read"):
        record.load(path)
    path.write_text(json.dumps({"rows": []}))
    with pytest.raises(SystemExit, match="format 2"):
        record.load(path)


@pytest.mark.parametrize(
    "words",
    [
        "dense --lengths 0",
        "biases --kinds nothing",
        "dilated --detach-weights maybe",
        "nonsense",
        "scaling --dtypes nonsense",
        "ring --plan --bandwidth 0",
        "dense --seconds nan",
    ],
)
def test_bad_options_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        main(words.split())
    assert "error: " in capsys.readouterr().err


REFUSED = {
    "dense --heads 3 --kv-heads 2": "3",
    "dense --head-dims 513": "513",
    "window --window 0": "size must be .* got 0",
    "sinks --sink-tokens -2": "-2",
    "rerope --head-dims 33": "33",
    "shifted --group-size 0": "0",
    "dilated --segment-lengths 16 32 --dilation-rates 1": "dilation",
    "dense --rivals zzz": "--rivals zzz: no name holds it; there are torch SDPA",
    "scores --softcap 3 --kinds sink_logits": "--softcap 3 is for --kinds softcap",
    "dense --json /no/such/folder/run.json": "/no/such/folder is no folder",
    "once dense --lengths 4 8": "one case is wanted",
    "ring --q-heads 3 --kv-heads 2": "--q-heads must be a multiple of --kv-heads, got 3 and 2",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_measured_is_refused_in_a_sentence_before_any_work(words, monkeypatch):
    monkeypatch.setattr(run_module, "measure", None)  # never called
    with pytest.raises(SystemExit, match=REFUSED[words]) as refusal:
        main(words.split())
    assert isinstance(refusal.value.code, str)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(SystemExit, match="--device cuda wants a GPU"):
        main(["dense", "--device", "cuda"])


def test_errors_are_printed(monkeypatch, capsys):
    jobs = [Job(tiny("sinks"), rivals=(CHUNKED,))]
    monkeypatch.setattr(standard, "error_jobs", lambda: jobs)
    assert main(["errors"]) == 0
    told = capsys.readouterr().out
    assert told.count("relative") == 8 and CHUNKED in told
