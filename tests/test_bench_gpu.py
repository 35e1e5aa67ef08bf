# SPDX-License-Identifier: BSD-3-Clause
"""The benchmarks for a GPU, as far as a machine without one can tell: shrunken cases run on the
CPU, what is counted is right, and a call that fails costs its own row and no other."""

import dataclasses
import json
import sys

import pytest
import torch

import bench_modules
from longattn import reference
from longattn.masks import Causal, Window

gpu = bench_modules.load("gpu")
gpu_cases = bench_modules.load("gpu_cases")
gpu_contender = bench_modules.load("gpu_contender")
gpu_dilated = bench_modules.load("gpu_dilated")
gpu_goals = bench_modules.load("gpu_goals")
gpu_ring = bench_modules.load("gpu_ring")
gpu_small = bench_modules.load("gpu_small")
gpu_timing = bench_modules.load("gpu_timing")
gpu_truth = bench_modules.load("gpu_truth")
record = bench_modules.load("record")

SHRUNKEN = gpu_cases.standard_cases(shrink=64)
# They need a GPU or, on the CPU, minutes for a compiler.
NOT_HERE = ("SDPA cuDNN", "FlexAttention, compiled", "torch flash, varlen", "gather + SDPA flash")


GPU = {
    "gpu": "NVIDIA H0", "compute_capability": "9.0", "driver": "570.1", "before": {},
    "cuda_of_torch": "13.0", "cudnn": 9,
}  # fmt: skip


@pytest.fixture
def without_gpu(monkeypatch):
    """Calls are made, and take a millisecond each."""
    monkeypatch.setattr(gpu_timing, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_timing, "FLUSH_BYTES", 1)
    monkeypatch.setattr(gpu_timing, "_once", lambda call, flush: call() and (1.0, 0.5))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(gpu, "peak_mebibytes", lambda call: call() and 7.0)
    monkeypatch.setattr(gpu, "milliseconds", lambda calls: gpu_timing.milliseconds(calls, 2))
    monkeypatch.setattr(record, "gpu", lambda: GPU)


def only_here(case):
    contenders = [one for one in case.contenders if one.name not in NOT_HERE]
    return dataclasses.replace(case, contenders=tuple(contenders))


@pytest.mark.parametrize("case", SHRUNKEN, ids=lambda case: f"{case.name}, {case.length}")
def test_cases_run(case, without_gpu):
    case = only_here(case)
    rows = gpu.measure(case, "cpu")
    assert len(rows) == 2 * len(case.contenders)
    assert len({record.key(row) for row in rows}) == len(rows)
    for row in rows:
        assert "not_timed" not in row, row["not_timed"]
        assert row["ms"] == [1.0] * 3 and row.get("gflops", row.get("gbs")) >= 0
        assert row["host_ms"] == 0.5
        assert ("ratio" in row) == (row["contender"] != "longattn")
        assert {name[0] for name in row["errors"]} >= {"d"} and row["peak_mib"] == 7.0
        assert gpu.text_of(row)


def spoilt(contender, part):
    """It errs by 6 % of the last result, or of the gradients of the inputs behind it."""

    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.06 if part == "forward" else x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 1.06 if part == "backward" else gradient

    def prepare(device):
        function, extra = contender.prepare(device)

        def call(*inputs):
            found = function(*inputs)
            if isinstance(found, torch.Tensor):
                return Off.apply(found)
            if contender.layout.together:  # they are one result
                return [Off.apply(one) for one in found]
            return [*found[:-1], Off.apply(found[-1])]

        return call, extra

    return dataclasses.replace(contender, prepare=prepare)


EVERYBODY = [
    pytest.param(case, contender, id=f"{case.name}, {case.length}, {contender.name}")
    for case in SHRUNKEN
    for contender in only_here(case).contenders
]


@pytest.mark.parametrize("part", ["forward", "backward"])
@pytest.mark.parametrize("case, contender", EVERYBODY)
def test_everybody_is_compared(case, contender, part, without_gpu):
    """Whoever it is, longattn too: a wrong result, or a wrong gradient, is not timed."""
    rows = gpu.measure(dataclasses.replace(case, contenders=(spoilt(contender, part),)), "cpu")
    for row in rows:
        assert row["not_timed"].startswith("wrong: ") and "ms" not in row


@pytest.mark.parametrize("case", SHRUNKEN, ids=lambda case: f"{case.name}, {case.length}")
def test_truths_stay_where_their_inputs_are(case):
    """Tensors without data meet none on the host: so they do on a GPU."""
    heads = {"q": case.heads, "k": case.kv_heads or case.heads, "v": case.kv_heads or case.heads}
    for contender in case.contenders:
        extra = contender.prepare("meta")[1] if contender.role == "ours" else []
        inputs = [
            torch.empty(1, case.length, heads[x], case.head_dim, device="meta")
            for x in case.inputs
        ]
        for rows in contender.truth([x.double() for x in [*inputs, *extra]], 3, 9):
            assert rows.device.type == "meta" and rows.shape[1] == 6


def visible_pairs(mask, length):
    positions = torch.arange(length)
    return int(reference.visible(mask, positions, positions).sum())


@pytest.mark.parametrize("window, sinks", [(16, 0), (16, 5), (200, 3)])
def test_window_pairs_are_counted(window, sinks):
    case = gpu_cases.window_case(97, 3, window, sinks)
    plain, with_sinks = case.contenders
    assert case.visible_pairs == 3 * visible_pairs(Window(window), 97)
    assert with_sinks.visible_pairs == 3 * visible_pairs(Window(window, sink_tokens=sinks), 97)
    flex = gpu_cases.flex_case(97, window, sinks, heads=3)
    assert flex.visible_pairs == with_sinks.visible_pairs


def test_packed_and_dense_pairs_are_counted():
    assert gpu_cases.dense_case(64, 97, 2).visible_pairs == 2 * visible_pairs(Causal(), 97)
    expected = sum(2 * visible_pairs(Causal(), length) for length in (5, 70, 1))
    assert gpu_cases.packed_case([5, 70, 1], heads=2).visible_pairs == expected
    lengths = gpu_cases.documents(1000, 9)
    assert sum(lengths) == 1000 and len(lengths) == 9 and min(lengths) > 0


def test_branches_as_dense_problems_have_their_sizes():
    layout = gpu_dilated.branches_as_dense([(16, 1), (32, 6)])
    shapes = [tuple(x.shape) for x in layout.split(torch.zeros(1, 96, 3, 8))]
    assert shapes == [(6, 16, 3, 8), (3, 6, 3, 8)]


def test_a_ring_is_compared_as_a_whole(without_gpu):
    """All shards together, results and gradients: another mask is seen."""
    [causal, window] = gpu_ring.ring_cases(1)
    for mask, differs in ((Causal(), False), (Window(30), True)):
        truth = gpu_truth.attention(mask)
        contenders = [dataclasses.replace(one, truth=truth) for one in causal.contenders]
        rows = gpu.measure(dataclasses.replace(causal, contenders=tuple(contenders)), "cpu")
        for row in rows:
            assert set(row["errors"]) == {"out", "dq", "dk", "dv"}
            assert ("wrong: out differs" in row.get("not_timed", "")) == differs
    assert causal.visible_pairs == 16 * visible_pairs(Causal(), 32)
    assert window.visible_pairs == 16 * visible_pairs(Window(1), 128)


def test_a_call_that_waits_for_the_host_is_told():
    case = gpu_cases.dense_case(64, 32, 2)
    row = gpu.identity(case) | {"part": "forward", "contender": "a", "peak_mib": 1.0}
    row["errors"] = {"out": [0.1, 0.1, 0.1]}
    for host, told in ((0.5, False), (2.5, True)):
        times = gpu_timing.Times([1.0, 3.0, 2.0], [host] * 3)
        row |= gpu.figures(times, "forward", case)
        assert row["ms"] == [2.0, 1.0, 3.0] and row["host_ms"] == host
        assert ("the host's time" in gpu.text_of(row)) == told


def rows_of(cases, figure) -> list:
    figures = {"ms": [figure] * 3, "gflops": figure * 1e3, "gbs": figure}
    return [
        gpu.identity(case) | figures
        | {"contender": one.name, "role": one.role, "part": part, "peak_mib": 1.0}
        for case in cases for one in case.contenders for part in gpu.PARTS
    ]  # fmt: skip


def test_every_goal_finds_its_rows():
    verdicts = gpu_goals.verdicts(rows_of(gpu_cases.standard_cases(), 1000.0))
    assert [verdict for verdict in verdicts if verdict["ratio"] is None] == []
    assert {verdict["goal"] for verdict in verdicts} == {goal.name for goal in gpu_goals.GOALS}
    assert "≥ 330" in {verdict["wanted"] for verdict in verdicts}


def test_goals_are_met_missed_or_not_measured():
    rows = rows_of([gpu_cases.window_case(32768, 1, 1024, 64)], 2.0)
    for row in rows[2:]:
        row["ms"] = [2.36] * 3
    found = {
        (verdict["goal"], verdict["part"]): (verdict["ratio"], verdict["met"])
        for verdict in gpu_goals.verdicts(rows)
    }
    assert found["64 sinks + window in the window's time", "forward"] == (1.18, False)
    assert found["64 sinks + window in the window's time", "backward"] == (1.18, True)
    assert found["ReRoPE in the time of RoPE", "forward"] == (None, None)
    told = [gpu_goals.text_of(verdict) for verdict in gpu_goals.verdicts(rows)]
    assert [line.split()[-1] for line in told if line.startswith("64 sinks")] == ["missed", "met"]


def fails(*tensors):
    raise RuntimeError("a sentence")


def test_a_call_that_fails_costs_only_its_own_times(without_gpu):
    calls = {"good": lambda: [1], "bad": fails, "late": one_that_fails_after(4)}
    found = gpu_timing.milliseconds(calls, 6, 0.0)
    assert found["good"] == ([1.0] * 5, [0.5] * 5)
    assert str(found["bad"]) == "a sentence" and isinstance(found["late"], StopIteration)


def one_that_fails_after(times):
    results = iter([[1]] * times)
    return lambda: next(results)


@pytest.fixture
def run_cases(without_gpu, monkeypatch, tmp_path):
    """run_cases(cases) -> (exit status, what is in the file)."""

    def run(cases):
        measure = gpu.measure
        monkeypatch.setattr(gpu, "measure", lambda case: measure(case, "cpu"))
        monkeypatch.setattr(gpu, "standard_cases", lambda: cases)
        monkeypatch.setattr(sys, "argv", ["gpu", "--json", str(tmp_path / "found.json")])
        return gpu.main(), record.load(tmp_path / "found.json")

    return run


@pytest.mark.parametrize("role, status", [("ours", 1), ("baseline", 1), ("rival", 0)])
def test_a_failing_call_is_told(role, status, run_cases, capsys):
    """One of longattn counts, one of a rival does not; the rows beside it stay."""
    good = gpu_contender.attend(Causal())
    truth = gpu_truth.attention(Causal())
    bad = gpu_contender.Contender("bad", gpu_contender.plain(fails), truth, role=role)
    cases = [gpu_contender.Case("a case", 20, 2, 16, (good, bad), visible_pairs=20)] * 2
    code, found = run_cases(cases)
    assert code == status
    told = [row.get("not_timed") for row in found["rows"]]
    assert told == [None, "RuntimeError: a sentence"] * 4
    assert found["left_out"] == [] and len(found["goals"]) > len(gpu_goals.GOALS)
    said = "not measured: a case, bad, forward: RuntimeError: a sentence"
    assert (said in capsys.readouterr().out) == (status == 1)


def test_a_wrong_longattn_is_told_and_right_rivals_are_timed(run_cases, capsys):
    truth = gpu_truth.attention(Causal())
    wrong = dataclasses.replace(gpu_contender.attend(Window(3)), truth=truth)
    right = dataclasses.replace(gpu_contender.attend(Causal()), name="a rival", role="rival")
    cases = [gpu_contender.Case("a case", 64, 2, 16, (wrong, right), visible_pairs=20)]
    code, found = run_cases(cases)
    assert code == 1
    assert ["ms" in row for row in found["rows"]] == [False, True] * 2
    assert "not measured: a case, longattn, forward: wrong: out differs" in capsys.readouterr().out


@pytest.fixture
def saved(run_cases, tmp_path):
    """The file of a run: a case with products, one of bytes, one in which a call fails."""
    bad = gpu_contender.Contender("bad", fails, gpu_truth.attention(Causal()), role="ours")
    grouped, rotary = (
        next(only_here(case) for case in SHRUNKEN if case.name == name)
        for name in ("dense causal, one key head", "apply_rotary")
    )
    code, _ = run_cases([
        SHRUNKEN[1], rotary, dataclasses.replace(grouped, contenders=(*grouped.contenders, bad))
    ])  # fmt: skip
    assert code == 1
    return tmp_path / "found.json"


def test_the_report_takes_a_run_on_a_gpu(saved, tmp_path, capsys):
    bench = bench_modules.load("__main__")
    assert bench.main(["report", str(saved), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    for told in (
        "- gpu: NVIDIA H0\n", "- driver: 570.1\n", "#### window 16, sinks\n", "### Where we lose",
        "events around one call", "- bad: RuntimeError: a sentence",
        "| 64 sinks + window in the window's time, forward |",
    ):  # fmt: skip
        assert told in page, told
    assert bench.main(["goals", str(saved)]) == 0
    assert "64 sinks + window in the window's time, backward" in capsys.readouterr().out
    assert bench.main(["compare", str(saved), str(saved)]) in (0, 1)


def test_readme_takes_a_run_on_a_gpu(saved, tmp_path, monkeypatch):
    summary = bench_modules.load("summary")
    (tmp_path / "cpu_one.json").write_text((summary.committed()[0]).read_text())
    saved.rename(tmp_path / "gpu_h0.json")
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    assert [path.stem for path in summary.committed()] == ["cpu_one", "gpu_h0"]
    text = summary.section()
    assert "NVIDIA H0 (compute capability 9.0), driver 570.1, CUDA 13.0" in text
    window = "| window 16, sinks, N 512, d128, 16 heads | with sinks | 1 ms, 0 TFLOP/s (1.00) |"
    assert window in text and "| apply_rotary, N 512, d128, 32/8 heads | copy | 1 ms," in text
    assert "Not timed: dense causal, one key head, bad, forward: RuntimeError: a sentence." in text
    assert "| 64 sinks + window in the window's time, forward |" in text


def test_the_driver_is_kept(monkeypatch):
    said = "570.1, 1980 MHz, 1980 MHz, 700.00 W, 31"
    monkeypatch.setattr(record, "said_by", lambda *words: said)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H0")
    found = record.machine("cuda")
    assert found["driver"] == "570.1" and found["before"]["power.limit"] == "700.00 W"
    assert {"gpu", "processor", "isa", "threads", "torch", "commit"} <= set(found)
    monkeypatch.setattr(record, "said_by", lambda *words: "")
    assert record.machine("cuda")["driver"] == "unknown"


def test_cases_after_the_deadline_are_told(without_gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "standard_cases", lambda: SHRUNKEN[:2])
    monkeypatch.setattr(
        sys, "argv", ["gpu", "--json", str(tmp_path / "found.json"), "--seconds", "-1"]
    )
    assert gpu.main() == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows"] == [] and len(found["left_out"]) == 2
    assert found["left_out"][0].endswith("out of time")


# What compute-sanitizer is shown


@pytest.mark.parametrize("call", gpu_small.CALLS, ids=lambda call: call.name)
def test_small_calls_run_on_the_cpu(call):
    gpu_small.every_variant("cpu", None, [torch.bfloat16], [(40, 104)], [call])


@pytest.mark.parametrize("call", gpu_small.CALLS + gpu_small.LONG, ids=lambda call: call.name)
def test_small_calls_run_in_the_emulator(simt, call):
    gpu_small.run(call, 40, 104, torch.float16, "cpu", "simt")


@pytest.mark.parametrize("dim", [40, 256])
@pytest.mark.parametrize("backend", ["cpu", "simt"])
def test_small_rotations_run(simt, backend, dim):
    gpu_small.rotate(dim, torch.float16, "cpu", backend)
