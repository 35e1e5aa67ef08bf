# SPDX-License-Identifier: BSD-3-Clause
"""`python -m longattn extrapolate` at toy size: complete, repeatable, and what its rows compute."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
import torch
from tqdm import tqdm

import longattn
import longattn.__main__ as command_line
from longattn import backends
from longattn.demo import evaluation, text
from longattn.demo.extrapolation import main
from longattn.demo.extrapolation.rotary_rows import rotary_rows
from longattn.demo.extrapolation.settings import ExtrapolationSettings, parse
from longattn.demo.extrapolation.training import Runs
from longattn.demo.extrapolation.weights import all_weights
from longattn.demo.extrapolation.workers import workers
from longattn.demo.model import HEADS, LAYERS
from longattn.demo.tables import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS, LENGTH, CONTEXTS = 4, 16, 3
ARGUMENTS = [
    "--steps", str(STEPS), "--length", str(LENGTH), "--batch", "2", "--contexts", str(CONTEXTS),
]  # fmt: skip
ON_ROPE_WEIGHTS = [
    "RoPE", "window 16", "lambda: window 16 + 4 sinks", "lambda, distance ceiling 16", "ReRoPE 8",
    "ReRoPE 8, logn", "Leaky ReRoPE 8, leak 32", "Leaky ReRoPE 8, leak 32, logn",
    "position interpolation", "NTK", "YaRN", "dynamic NTK, factor 2",
]  # fmt: skip
OF_THEIR_OWN = [
    "ALiBi", "KERPLE, logarithmic", "xPos, causal blocks of 8", "KeyNorm (RoPE, keys of norm 1)",
    "HWFA: windows of 6, last layer full",
]  # fmt: skip
MULTIPLES = ("1", "2", "4", "8", "16")


@pytest.fixture(scope="module")
def corpus():
    return text.read_corpus()


@pytest.fixture
def pool():
    with workers(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The output folders of a small run: by two threads, by one, and with another seed."""
    folders = []
    for seed, threads in (("0", "2"), ("0", "1"), ("1", "2")):
        folder = tmp_path_factory.mktemp("extrapolation") / "not" / "there" / "yet"
        options = ["--seed", seed, "--threads", threads, "--output", str(folder)]
        assert main([*ARGUMENTS, *options]) == 0
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def results(runs):
    return [json.loads((folder / "results.json").read_text()) for folder in runs]


@pytest.fixture(scope="module")
def rows(results):
    return {label: row for group in results[0]["rows"].values() for label, row in group.items()}


def test_every_row_has_every_length(rows):
    assert list(rows) == ON_ROPE_WEIGHTS + OF_THEIR_OWN
    for label, row in rows.items():
        for part in ("end", "all"):
            assert tuple(row[part]) == MULTIPLES, label
            for entry in row[part].values():
                assert 1.0 < entry["mean"] < 7.0 and 0.0 < entry["standard_error"] < 2.0, label
        change = row["end"]["16"]["mean"] - row["end"]["1"]["mean"]
        assert row["change"] == pytest.approx(change, abs=1e-5)
        assert len(row["by_position"]) == 16 * LENGTH
        everywhere = sum(row["by_position"]) / (16 * LENGTH)
        assert row["all"]["16"]["mean"] == pytest.approx(everywhere, rel=1e-5)
        assert row["all"]["1"] == pytest.approx(row["end"]["1"])  # the end is the whole context


def test_the_report_shows_the_table_and_what_it_stands_on(runs, rows, results):
    report = (runs[0] / "report.txt").read_text(encoding="utf-8")
    for label, row in rows.items():
        line = next(line for line in report.splitlines() if line.startswith(f"  {label}  "))
        cells = line[2 + len(label) :].replace("±", " ").split()
        ends = [f"{row['end'][m]['mean']:.3f}" for m in MULTIPLES]
        change = [f"{row['change']:+.3f}", f"{row['change_standard_error']:.3f}"]
        alls = [f"{row['all'][m]['mean']:.3f}" for m in MULTIPLES[1:]]
        assert cells == ends + change + alls, label
    lengths = f"{CONTEXTS * LENGTH:,}", f"{16 * CONTEXTS * LENGTH:,}"
    for said in (*lengths, "standard error", results[0]["repeat"], results[0]["versions"]):
        assert said in report
    largest = max(entry["standard_error"] for row in rows.values() for entry in row["end"].values())
    assert f"at most {largest:.3f} at the end" in report
    assert max(len(line) for line in report.splitlines()) <= 125


def test_the_picture_is_written(runs):
    picture = (runs[0] / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n") and len(picture) > 20_000


def test_the_same_seed_gives_the_same_numbers_whatever_the_threads(results):
    first, again, other = results
    for key in ("rows", "training_losses", "unigram", "bigram", "repeat", "versions"):
        assert first[key] == again[key], key
    assert first["training_losses"] != other["training_losses"]
    for name, losses in first["training_losses"].items():
        assert len(losses) == STEPS and losses[-1] < losses[0], name


def test_rows_on_the_same_weights_agree_where_they_are_the_same(rows):
    """At 1x nothing is beyond the training length, and no factor is above 1."""
    unchanged = [label for label in ON_ROPE_WEIGHTS if "ReRoPE" not in label]
    at_1x = [rows[label]["end"]["1"]["mean"] for label in unchanged]
    assert max(at_1x) - min(at_1x) < 1e-6
    assert abs(rows["ReRoPE 8"]["end"]["1"]["mean"] - at_1x[0]) > 1e-6  # a window of half of it
    at_16x = [rows[label]["end"]["16"]["mean"] for label in ON_ROPE_WEIGHTS]
    assert len({round(value, 6) for value in at_16x}) == len(ON_ROPE_WEIGHTS), at_16x


def test_the_report_says_how_to_repeat_it(results):
    command = results[2]["repeat"]
    assert command.startswith("python -m longattn extrapolate --seed 1 --steps 4 ")
    again = parse(command.split()[4:])
    for name in ("seed", "steps", "length", "batch", "contexts"):
        assert getattr(again, name) == results[2]["settings"][name]


@pytest.mark.parametrize(
    "label, far",
    [("RoPE", 60), ("ReRoPE 8", 8), ("Leaky ReRoPE 8, leak 32", 8 + 52 / 32),
     ("lambda, distance ceiling 16", 16), ("position interpolation", 60 / 4)],
)  # fmt: skip
def test_at_which_distance_the_last_query_meets_the_first_key(label, far):
    """Against a rotation by that distance alone: the last query, scored on the first key."""
    rope, length = longattn.RotaryEmbedding(16), 61
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, length, 1, 16, dtype=torch.float64)
    v = torch.zeros(1, length, 1, 2, dtype=torch.float64)
    v[:, 0, :, 0] = 1.0  # the share of the first key,
    v[:, -1, :, 1] = 1.0  # and of the query's own, whose distance is 0 for everybody
    shares = rotary_rows(rope, 16)[label](4)(q, k, v)[0, -1, 0]
    places = torch.tensor([float(far)], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    turned, still = longattn.apply_rotary(q[:, -1:], k[:, :1], rope, places)
    expected = (turned[0, 0, 0] @ still[0, 0, 0] - q[0, -1, 0] @ k[0, -1, 0]) / 16**0.5
    torch.testing.assert_close((shares[0] / shares[1]).log(), expected)


def test_the_decoders_start_alike_and_see_the_same_text(corpus, pool):
    runs = Runs(corpus, ExtrapolationSettings(length=16, batch=2, steps=1), pool)
    first, *others = runs.by_name.values()
    for run in others:
        for a, b in zip(first.model.parameters(), run.model.parameters(), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(first.generator.get_state(), run.generator.get_state())
    mean = runs.step(1e-3)
    assert mean == pytest.approx(sum(losses[0] for losses in runs.losses.values()) / 6)
    for run in others:
        assert torch.equal(first.generator.get_state(), run.generator.get_state())


def test_kerple_learns_its_parameters_and_keeps_them_positive(corpus, pool):
    settings = ExtrapolationSettings(length=16, batch=2, steps=1)
    runs = Runs(corpus, settings, pool)
    learned = runs.weights["KERPLE"].learned
    assert len(learned) == 2 * LAYERS and all(x.shape == (HEADS,) for x in learned)
    before = [x.detach().clone() for x in learned]
    runs.by_name["KERPLE"].step(1e-2)
    assert not any(torch.equal(x, y) for x, y in zip(learned, before))
    with torch.no_grad():
        learned[0].fill_(-1.0)
    runs.by_name["KERPLE"].step(0.0)
    assert (learned[0] == 0.01).all()


@pytest.mark.parametrize("name", ["RoPE", "ALiBi", "KERPLE", "xPos", "KeyNorm", "HWFA"])
def test_no_row_looks_ahead(corpus, pool, name):
    settings = ExtrapolationSettings(length=8, batch=2, steps=1)
    model = Runs(corpus, settings, pool).by_name[name].model.eval()
    tokens = corpus.train[:33].long()[None]
    changed = tokens.clone()
    changed[0, 20] += 1
    for label, attends_at in all_weights(settings)[name].rows.items():
        with torch.no_grad():
            before, after = (model(x, attends_at(4)) for x in (tokens, changed))
        torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-5)
        assert (before[:, 20:] - after[:, 20:]).abs().max() > 1e-3, label


def test_hwfa_reaches_three_quarters_of_the_training_length():
    """(windows - 1) * (layers - 1) + 1, as its author counts."""
    for length in (16, 64, 128):
        label = next(iter(all_weights(ExtrapolationSettings(length=length))["HWFA"].rows))
        window = int(label.split("of ")[1].split(",")[0])
        assert (window - 1) * (LAYERS - 1) + 1 <= 3 * length // 4 < window * (LAYERS - 1) + 1


def test_losses_of_the_end_are_of_the_same_bytes(corpus, pool):
    """A model that looks at nothing but the last byte has the same loss at every length."""
    settings = ExtrapolationSettings(length=16, batch=2, steps=1, contexts=3)
    model = Runs(corpus, settings, pool).by_name["RoPE"].model.eval()
    with tqdm(disable=True) as progress:
        losses = evaluation.measure(
            model, corpus, settings, lambda multiple: lambda q, k, v: v, progress
        )
    for multiple in settings.multiples[2:]:  # in the first byte of 1x there is no last byte
        assert torch.allclose(losses.at_end[multiple], losses.at_end[2])


def test_the_page_has_the_rows_of_the_default_run():
    """docs/extrapolation.md shows one run: with these labels, as many numbers, and this seed."""
    page = (ROOT / "docs" / "extrapolation.md").read_text(encoding="utf-8")
    settings = ExtrapolationSettings()
    labels = [label for weights in all_weights(settings).values() for label in weights.rows]
    shown = [line for line in page.splitlines() if "±" in line and line.startswith("  ")]
    assert [line.split("  ")[1] for line in shown] == labels
    for line, label in zip(shown, labels):
        numbers = line[2 + len(label) :].replace("±", " ").split()
        at_end, change, everywhere = numbers[:5], numbers[5:7], numbers[7:]
        assert float(change[0]) == pytest.approx(float(at_end[4]) - float(at_end[0]), abs=2e-3)
        assert len(everywhere) == 4
    assert f"--seed {settings.seed} --steps {settings.most_steps}" in page
    assert f"({settings.seconds:.0f})" in page


def test_contexts_that_would_overlap_are_refused(capsys, tmp_path):
    arguments = ["--contexts", "1000000", "--steps", "1", "--output", str(tmp_path)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("the comparison cannot run: --contexts 1000000 of 1024 bytes would")
    assert error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_what_is_missing_is_a_sentence(monkeypatch, capsys, tmp_path):
    assert main(["--length", "100000000"]) == 1
    assert "a smaller --length fits" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*ARGUMENTS, "--output", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    monkeypatch.setattr(backends, "available", lambda device_type: (False, "it is not built"))
    assert main(ARGUMENTS) == 1
    assert capsys.readouterr().err == "the comparison cannot run: it is not built\n"
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tqdm" else find_spec(name)
    )
    assert main(ARGUMENTS) == 1
    assert "tqdm must be installed: pip install longattn[demo]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--length", "7"], ["--seconds", "soon"], ["--sed", "1"]]
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(["extrapolate", *arguments])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert arguments[0] in error and "python -m longattn extrapolate: error: " in error


def test_help_is_of_this_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(["extrapolate", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert exit_.value.code == 0 and "longattn-extrapolation" in shown and "16 times" in shown


def test_workers_compute_alone_and_leave_torch_as_it_was():
    before = torch.get_num_threads()
    with workers(3) as pool:
        assert list(pool.map(lambda _: torch.get_num_threads(), range(6))) == [1] * 6
    with pytest.raises(KeyboardInterrupt), workers(None) as pool:
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(print)


def test_importing_longattn_brings_neither_picture_nor_progress_bar():
    code = (
        "import sys, torch; before = set(sys.modules); "  # torch itself may have a progress bar
        "import longattn, longattn.__main__, longattn.demo.extrapolation; "
        "new = set(sys.modules) - before; "
        "print(sorted(new & {'matplotlib', 'tqdm'}), 'longattn.attention' in new)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[] True\n"


def test_tables_have_titles_across():
    shown = table(["name", "a"], [["a title wider than all"], ["row", "1"]]).splitlines()
    assert shown == ["name  a", "-" * 22, "a title wider than all", "row   1"]
