# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ says of a run: goals, changes, growth, losses, pages, and the command line."""

import copy
import json
import math

import pytest
import torch

from bench import run as run_module
from bench import changes, errors, goals, held, record, scaling, standard, summary
from bench.__main__ import main
from bench.contenders.chunked import CHUNKED
from bench.contenders.rotation import EAGER
from bench.measure import Job, Options
from bench import tables
from bench.report import lengths
from bench_shapes import EVERY, tiny

QUICK = Options(repeats=2, seconds=0.01)


def row(contender="torch SDPA", **changed) -> dict:
    """Twice as slow as longattn, in a case that has a goal."""
    made = {
        "pattern": "dense", "title": "dense causal", "parameters": {}, "length": 4096,
        "dtype": "float32", "head_dim": 64, "q_heads": 8, "kv_heads": 8, "batch": 1,
        "device": "cpu", "part": "forward", "contender": contender, "role": "rival",
        "ms": [20.0, 19.0, 22.0], "ratio": [2.0, 1.9, 2.2], "rounds": 5,
    }  # fmt: skip
    if contender == "longattn":
        made |= {"role": "ours", "ms": [10.0, 9.5, 10.5]}
        del made["ratio"]
    return made | changed


def result(*rows) -> dict:
    machine = {"processor": "P", "isa": "avx512", "threads": 1, "torch": "2", "longattn": "0",
               "commit": "c"}  # fmt: skip
    return {"format": record.FORMAT, "machine": machine, "options": {}, "rows": list(rows)}


def verdict_of(run, against, **where):
    """The measured ones."""
    found = [one for one in goals.verdicts(run) if one.against == against and one.met is not None]
    return found[0] if len(found) == 1 else found


def test_a_goal_is_about_its_own_case():
    """Of another size, device or number of threads nothing was asked."""
    sinks = row(
        CHUNKED, pattern="sinks", length=8192, head_dim=128,
        parameters={"window": 1024, "sink_tokens": 64},
    )  # fmt: skip
    assert verdict_of(result(sinks), CHUNKED).goal == "≥ 2.3"
    for other in (
        {"length": 64}, {"device": "cuda"}, {"head_dim": 64},
        {"parameters": {"window": 8, "sink_tokens": 2}},
    ):  # fmt: skip
        assert verdict_of(result(sinks | other), CHUNKED) == []
    two_threads = result(sinks)
    two_threads["machine"] = two_threads["machine"] | {"threads": 2}
    assert verdict_of(two_threads, CHUNKED) == []


def test_a_goal_is_met_or_not():
    assert verdict_of(result(row()), "torch SDPA").met
    slow = verdict_of(result(row(ratio=[1.49, 1.4, 1.6])), "torch SDPA")
    assert not slow.met and (slow.goal, slow.value) == ("≥ 1.5", 1.49)


def test_a_goal_that_rounds_disagree_about_says_so():
    unsure = verdict_of(result(row(ratio=[1.6, 1.4, 1.8])), "torch SDPA")
    assert goals.answer(unsure) == "met (not in every round)"
    assert goals.answer(verdict_of(result(row()), "torch SDPA")) == "met"


def test_a_price_is_the_inverse_of_a_ratio():
    price = row(
        "longattn, plain scores", pattern="biases", parameters={"kind": "alibi"}, role="baseline",
        ratio=[0.5, 0.4, 0.8],
    )  # fmt: skip
    one = verdict_of(result(price), "longattn, plain scores")
    assert (one.goal, one.value, one.low, one.high, one.met) == ("≤ 1.05", 2.0, 1.25, 2.5, False)
    cheap = price | {"ratio": [1.0, 0.9, 1.1]}
    assert verdict_of(result(cheap), "longattn, plain scores").met


def test_goals_that_were_not_measured_stay_visible():
    verdicts = goals.verdicts(result())
    assert len(verdicts) == len(goals.GOALS) + 1
    assert {one.met for one in verdicts} == {None}
    assert "not measured" in tables.goals_table(result())


def test_a_forced_instruction_set_has_its_own_goal():
    forced = verdict_of(result(row(isa="avx2", torch_isa="avx2", ratio=[1.2, 1.1, 1.3])), "torch SDPA")
    assert forced.goal == "≥ 1" and "both held to avx2" in forced.work
    alone = result(row(isa="avx2"))  # torch is not held
    assert verdict_of(alone, "torch SDPA") == []


def test_kept_memory_has_its_own_goals():
    kept = row(EAGER, pattern="rotary", memory="kept", ratio=[5.0, 4.0, 6.0])
    verdict = verdict_of(result(kept), EAGER)
    assert not verdict.met and verdict.work.endswith(", freed memory kept")


def test_environments_label_their_rows():
    for name, environment in held.ENVIRONMENTS.items():
        assert held.missing(name, environment) == "" != held.missing(name, {})
        label = held.labels(environment)
        assert held.labels({}) == {} != label and held.text_of(row(**label)) != ""
        assert record.key(row(**label)) != record.key(row())
        with pytest.raises(SystemExit, match="wants the environment [A-Z]"):
            main(["forced", name])
    assert held.text_of(row()) == ""
    assert held.text_of(row(isa="avx2")) == ", longattn held to avx2"


def test_every_goal_is_measured_by_the_standard_set():
    """Each names a contender, a part and a case of a job."""
    jobs = [(job, {}) for job in standard.standard_jobs()]
    jobs += [
        (job, held.labels(held.ENVIRONMENTS[name]))
        for name, forced in standard.forced_jobs().items()
        for job in forced
    ]
    measured = []
    for job, labels in jobs:
        case = job.case
        measured += [
            row(
                name, part=part, pattern=case.pattern, dtype=case.dtype, head_dim=case.head_dim,
                length=case.length, parameters=case.parameters(), **labels,
            )
            for name in job.rivals
            for part in job.parts
        ]  # fmt: skip
    missing = [goal for goal in goals.GOALS if not any(goal.fits(one) for one in measured)]
    assert missing == []
    for job, _ in jobs:  # a name that nobody has would be left out silently
        assert set(job.rivals) <= {rival.name for rival in job.case.rivals()}, job


def test_what_moved_beyond_its_spread():
    before = result(row("longattn"), row())
    assert changes.compare(before, copy.deepcopy(before)) == ([], [])
    slower = result(row("longattn", ms=[12.0, 11.0, 13.0]), row(ratio=[1.5, 1.4, 1.6]))
    found, remarks = changes.compare(before, slower)
    assert [(one.measure, one.better) for one in found] == [
        ("ms", False),
        ("time / longattn's", False),
    ]
    overlapping = result(row("longattn", ms=[10.4, 10.4, 11.0]), row(ratio=[1.95, 1.85, 2.0]))
    assert changes.compare(before, overlapping)[0] == []


def test_times_of_other_machines_are_not_compared():
    other = result(row("longattn", ms=[99.0, 98.0, 99.9]), row(ratio=[3.0, 2.9, 3.1]))
    other["machine"] = other["machine"] | {"processor": "Q"}
    found, remarks = changes.compare(result(row("longattn"), row()), other)
    assert [(one.measure, one.better) for one in found] == [("time / longattn's", True)]
    assert "machines differ" in remarks[0]


def test_rows_of_one_run_only_are_told():
    _, remarks = changes.compare(result(row(), row(length=64)), result(row()))
    assert remarks == ["times: 1 row is in the first run only"]


def committed() -> dict:
    """A whole run, with a part of every kind."""
    return record.load(summary.committed()[0])


def times_ten(row, *names):
    for name in names:
        value = row[name]
        row[name] = [10 * x for x in value] if isinstance(value, list) else 10 * value


WORSE = {
    "errors": lambda run: [times_ten(one, "rms", "largest") for one in run["errors"]],
    "peaks": lambda run: [times_ten(one, "peak_mib") for one in run["rows"] if "peak_mib" in one],
    "small calls": lambda run: times_ten(run["small_call"], "longattn.attention"),
    "rings": lambda run: [times_ten(one, "ratio") for one in run["ring"]],
    "errors of rings": lambda run: [times_ten(one, "out") for one in run["ring_errors"]],
    "exponents": lambda run: [times_ten(one, "time_exponent") for one in run["scaling"]],
    "models": lambda run: [times_ten(one, "peak_mib") for one in run["end_to_end"]],
}


@pytest.mark.parametrize("what", WORSE)
def test_whatever_became_worse_is_seen(what):
    before, after = committed(), committed()
    assert changes.compare(before, after) == ([], [])
    WORSE[what](after)
    found, _ = changes.compare(before, after)
    assert found and not any(one.better for one in found)
    assert all(one.better for one in changes.compare(after, before)[0])


def test_a_longattn_that_became_wrong_is_worse(tmp_path, capsys):
    wrong = row("longattn", not_timed="wrong: out differs")
    del wrong["ms"]
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    record.save(result(row("longattn"), row()), paths[0])
    record.save(result(wrong, row()), paths[1])
    assert main(["compare", *map(str, paths)]) == 1
    told = capsys.readouterr().out
    assert "WORSE  dense causal, forward" in told and "wrong: out differs" in told


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


def test_the_standard_set_shows_where_patterns_overtake_the_dense_line():
    measured = {}
    for job in standard.standard_jobs():
        for name in job.rivals:
            place = (job.case.pattern, job.case.dtype, name)
            measured.setdefault(place, set()).add(job.case.length)
    for dtype in standard.DTYPES:
        for pattern in ("window", "dilated"):
            assert len(measured[pattern, dtype, standard.DENSE_SDPA]) > 1
        assert len(measured["window", dtype, CHUNKED]) > 2
        assert len(measured["dense", dtype, "torch SDPA"]) > 2


def test_the_keys_of_the_standard_set_differ():
    keys = [
        (job.case.pattern, str(job.case), part, name)
        for job in standard.standard_jobs()
        for part in job.parts
        for name in ("longattn", *job.rivals)
    ]
    assert len(keys) == len(set(keys))


def test_readme_has_the_longest_of_each_case():
    rows = [row(length=length, part=part) for length in (1, 2) for part in ("forward", "both")]
    rows.append(row(length=4))
    assert [(one["length"], one["part"]) for one in summary.longest(rows)] == [
        (2, "both"), (4, "forward"),
    ]  # fmt: skip


def test_where_we_lose():
    lost = row(ratio=[0.8, 0.7, 0.9])
    unsure = row(part="backward", ratio=[0.95, 0.9, 1.1])
    told = "\n".join(tables.losses(result(lost, unsure, row(length=2048))))
    assert "torch SDPA takes 0.80 (0.70 to 0.90) of longattn's time\n" in told
    assert "(but not in every round)" in told
    assert "goal missed: dense causal, forward" in told
    assert tables.losses(result(row())) == []


def test_less_exact_than_everybody_is_a_loss():
    one = {"title": "t", "dtype": "float32", "tensor": "dq", "largest": 1.0, "relative": 1.0}
    rows = [
        one | {"contender": name, "rms": rms} for name, rms in (("longattn", 3e-7), ("r", 1e-7))
    ]
    assert "rms error of dq" in tables.losses(result() | {"errors": rows})[0]
    rows[0]["rms"] = 2e-7
    assert tables.losses(result() | {"errors": rows}) == []


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
    assert absent == {"flash_attn": "flash_attn runs on CUDA only"}
    assert found["options"] == {"repeats": 2, "seconds": 3.0, "seed": 0}
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


def test_a_rival_that_is_as_fast_when_held_is_said_to_be():
    label = {"isa": "avx2", "torch_isa": "avx2"}
    held_rows = [row("longattn", **label), row(ms=[21.0, 20.0, 22.0], ratio=[1.1, 1.0, 1.2], **label)]
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
