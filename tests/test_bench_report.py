# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ says of a run: growth, losses, pages and the results in README."""

import math

import pytest

from bench import end_to_end, errors, losses, record, scaling, standard, summary
from bench.__main__ import main
from bench.contenders.chunked import CHUNKED
from bench.measure import Job, Options
from bench.report import lengths
from bench.run import Run
from bench_rows import committed, result, row
from bench_shapes import EVERY, tiny


QUICK = Options(repeats=2, seconds=0.01)


def test_exponents():
    sizes = (100, 200, 400)
    assert scaling.exponent(sizes, [3 * n for n in sizes]) == pytest.approx(1)
    assert scaling.exponent(sizes, [n**2 / 7 for n in sizes]) == pytest.approx(2)


def test_a_study_of_growth():
    rows = scaling.study("window", "float32", QUICK, lengths=(256, 512))
    assert [one["part"] for one in rows] == ["forward", "both"]
    for one in rows:
        assert len(one["ms"]) == 2 and min(one["ms"]) > 0
        expected = scaling.exponent(one["lengths"], one["ms"])
        assert one["time_exponent"] == pytest.approx(expected, abs=0.01)
    assert "time ~ N^" in scaling.text_of(rows[0])


def series(contender, ms, sizes=(1024, 2048, 4096)):
    return lengths.Series(contender, "rival", list(sizes), list(ms), [None] * 3, [None] * 3)


def test_crossover():
    ours = series("longattn", (2, 4, 8))
    assert lengths.crossover(ours, series("dense", (1, 4, 16))) == 2048
    assert lengths.crossover(ours, series("dense", (1, 8, 64))) == round(1024 * math.sqrt(2))
    assert lengths.crossover(ours, series("dense", (3, 12, 48))) == 0
    assert lengths.crossover(ours, series("dense", (1, 2, 4))) is None
    assert lengths.crossover(ours, series("dense", (1, 4, 16), (1, 2, 3))) is None


def test_series_are_of_one_instruction_set_batch_and_device():
    rows = [
        row("longattn", length=length, **label)
        for length in (1024, 2048)
        for label in ({}, {"isa": "avx2", "torch_isa": "avx2"}, {"batch": 2}, {"device": "cuda"})
    ]
    families = lengths.families(rows)
    assert [family[0] for family in families] == [
        "dense causal", "dense causal, both held to avx2", "dense causal, batch 2",
        "dense causal, cuda",
    ]  # fmt: skip
    assert all([len(one.lengths) for one in found] == [2] for found in families.values())


def test_readme_has_the_longest_of_each_case():
    rows = [row(length=length, part=part) for length in (1, 2) for part in ("forward", "both")]
    rows.append(row(length=4))
    assert [(one["length"], one["part"]) for one in summary.longest(rows)] == [
        (2, "both"), (4, "forward"),
    ]  # fmt: skip


def test_where_we_lose():
    lost = row(ratio=[0.8, 0.7, 0.9])
    unsure = row(part="backward", ratio=[0.95, 0.9, 1.1])
    told = "\n".join(losses.losses(result(lost, unsure, row(length=2048))))
    assert "torch SDPA takes 0.80 (0.70 to 0.90) of longattn's time\n" in told
    assert "(but not in every round)" in told
    assert "goal missed: dense causal, forward" in told
    assert losses.losses(result(row())) == []


def test_less_exact_than_everybody_is_a_loss():
    one = {"title": "t", "dtype": "float32", "tensor": "dq", "largest": 1.0, "relative": 1.0}
    rows = [
        one | {"contender": name, "rms": rms} for name, rms in (("longattn", 3e-7), ("r", 1e-7))
    ]
    rows.append(rows[1] | {"contender": "worst", "rms": 1e-5})
    (told,) = losses.losses(result() | {"errors": rows})
    assert "the rms error of dq is 3.0e-07, that of r 1.0e-07" in told
    rows[0]["rms"] = 1.2e-7
    assert losses.losses(result() | {"errors": rows}) == []


def test_more_memory_than_a_rival_and_slower_small_calls_are_losses():
    rows = [row("longattn", peak_mib=12.0), row(peak_mib=10.0)]
    (told,) = losses.losses(result(*rows))
    assert "longattn's peak is 12.0 MiB, that of torch SDPA 10.0" in told
    assert losses.losses(result(rows[0], row(peak_mib=11.5))) == []
    calls = {"longattn.attention": 20.0, "torch SDPA": 5.0}
    (told,) = losses.losses(result() | {"small_call": calls})
    assert "longattn.attention takes 20 µs, torch SDPA 5" in told
    models = [
        {"contender": name, "dtype": "bfloat16", "peak_mib": peak}
        for name, peak in (("torch SDPA", 100.0), ("longattn, causal", 120.0))
    ]
    (told,) = losses.losses(result() | {"end_to_end": models})
    assert "with longattn, causal is 120 MiB, with torch SDPA 100" in told


def test_the_standard_run_says_how_long_it_took(monkeypatch, tmp_path, capsys):
    for name in ("standard_jobs", "error_jobs"):
        monkeypatch.setattr(standard, name, lambda: [])
    monkeypatch.setattr(standard, "forced_jobs", lambda: {})
    for name in ("small_call", "scaling", "ring", "end_to_end"):
        monkeypatch.setattr(Run, name, lambda self, *_: None)
    assert main(["--json", str(tmp_path / "run.json")]) == 0
    assert record.load(tmp_path / "run.json")["minutes"] == 0.0
    assert "all of it took 0.0 minutes" in capsys.readouterr().out


def test_a_run_that_was_stopped_can_be_read(tmp_path):
    run = committed()
    del run["ring_errors"]
    run["end_to_end"] = [one for one in run["end_to_end"] if one["contender"] != end_to_end.SDPA]
    record.save(run, tmp_path / "run.json")
    assert main(["report", str(tmp_path / "run.json"), "--out", str(tmp_path)]) == 0
    assert "longattn, causal" in (tmp_path / "report.md").read_text()


def test_errors_of_every_row():
    found = errors.errors_of(Job(tiny("sinks"), rivals=(CHUNKED,)), seed=0)
    assert {one["contender"] for one in found} == {"longattn", CHUNKED}
    assert {one["tensor"] for one in found} == {"out", "dq", "dk", "dv"}
    assert all(0 < one["rms"] <= one["largest"] < 1e-4 for one in found)


def test_errors_are_taken_of_every_pattern():
    patterns = {job.case.pattern for job in standard.error_jobs()}
    assert patterns == {name for name, _ in EVERY} - {"threads"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run of the command line, of two lengths, and one in which longattn is slower."""
    folder = tmp_path_factory.mktemp("runs")
    command = "window --lengths 128 256 --dtypes float32 --window 32 --head-dims 16 --heads 2"
    command += " --repeats 2 --rivals loop dense flash_attn --json"
    paths = [folder / name for name in ("a.json", "b.json")]
    assert main([*command.split(), str(paths[0])]) == 0
    slower = record.load(paths[0])
    for one in slower["rows"]:
        if one["role"] == "ours":
            one["ms"] = [10 * value for value in one["ms"]]
    record.save(slower, paths[1])
    return paths


def test_a_run_is_saved_whole(files, capsys):
    found = record.load(files[0])
    timed = [one for one in found["rows"] if "ms" in one]
    assert len(timed) == 2 * 3 * 3  # lengths, parts, contenders
    absent = {one["contender"]: one["not_timed"] for one in found["rows"] if "not_timed" in one}
    assert absent == {
        name: f"{name} runs on CUDA only" for name in ("flash_attn", "flash_attn 3", "flash_attn 4")
    }
    assert found["options"] == {"repeats": 2, "seconds": 2.0, "seed": 0}
    assert not list(files[0].parent.glob("*.partial"))


def test_the_report(files, tmp_path, capsys):
    assert main(["report", str(files[0]), "--out", str(tmp_path)]) == 0
    page = tmp_path / "report.md"
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    for heading in ("Goals", "Beside rivals", "Against length", "Where we lose"):
        assert f"### {heading}\n" in text
    pictures = [name.split(")")[0] for name in text.split("](")[1:]]
    assert len(pictures) >= 4
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "- flash_attn: flash_attn runs on CUDA only" in text


def test_compare_and_goals_by_command(files, capsys):
    assert main(["compare", *map(str, files)]) == 1
    assert capsys.readouterr().out.count("WORSE") == 2 * 3
    assert main(["compare", str(files[0]), str(files[0])]) == 0
    assert "nothing moved" in capsys.readouterr().out
    assert main(["goals", str(files[0])]) == 0
    assert "0 of 0 goals met" in capsys.readouterr().out


def test_a_rival_that_is_as_fast_when_held_is_said_to_be():
    label = {"isa": "avx2", "torch_isa": "avx2"}
    rival = row(ms=[21.0, 20.0, 22.0], ratio=[1.1, 1.0, 1.2], **label)
    held_rows = [row("longattn", **label), rival]
    run = result(row("longattn"), row(), *held_rows)
    _, text = summary.like_against_like(run)
    assert "torch SDPA runs AVX2 code" in text and "longattn's kernels use avx512" in text
    assert "20 ms free and 21 ms held (forward)" in text
    assert "both are held to avx2: 1.10 forward.**" in text
    assert text in summary.markdown(run)
    held_rows[1]["ms"] = [40.0, 39.0, 41.0]
    assert summary.like_against_like(run) == []


def test_the_code_of_torchs_product_is_kept_with_a_run():
    told = record.machine()["torch_matmul"]
    assert told == "unknown" or told.startswith("oneMKL") and "processors" in told


def test_the_clock_of_several_threads_is_named():
    rows = [row("longattn", pattern="threads"), row("one", pattern="threads", role="baseline")]
    assert "| dense causal, wall clock, N 4096" in summary.markdown(result(*rows))


def test_readme_section_of_a_run():
    forced = row(isa="avx2", torch_isa="avx2")
    ours = [row("longattn"), row("longattn", isa="avx2", torch_isa="avx2")]
    price = row("plain", role="baseline", ratio=[0.5, 0.4, 0.8])
    text = summary.markdown(result(*ours, row(), forced, price) | {"small_call": {"x": 1.5}})
    assert (
        "| dense causal, N 4096, d64, 8 heads | torch SDPA | 2.00 (1.90 to 2.20), 10 ms |" in text
    )
    assert "8 heads, both held to avx2 | torch SDPA" in text
    assert "| plain | 2.00 (1.25 to 2.50) |" in text
    assert "`x` 1.5 µs" in text
