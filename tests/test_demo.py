# SPDX-License-Identifier: BSD-3-Clause
"""The demo at toy size: it learns, measures what it says, repeats, and refuses in sentences."""

import importlib.util
import json
import os

import pytest
import torch

import longattn.__main__ as command_line
from longattn import backends, demo
from longattn.demo import attends, evaluation, files, long_layer, memory, speed, text
from longattn.demo.model import Decoder
from longattn.demo.settings import MULTIPLES, SPEED_MULTIPLES, Settings, parse
from longattn.demo.training import threads_to_use, train

STEPS, LENGTH = 60, 32
ARGUMENTS = ["--steps", str(STEPS), "--length", str(LENGTH), "--batch", "8", "--contexts", "6"]


@pytest.fixture(scope="module")
def corpus():
    return text.read_corpus()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The output folders of the same small run, twice, and of one with another seed."""
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "SECONDS", 0.0)  # one timed round
        patch.setattr(long_layer, "LENGTHS", (256,))
        for seed in ("0", "0", "1"):
            folder = tmp_path_factory.mktemp("demo") / "not" / "there" / "yet"
            assert demo.main([*ARGUMENTS, "--seed", seed, "--output", str(folder)]) == 0
            folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def results(runs):
    return [json.loads((folder / "results.json").read_text()) for folder in runs]


def test_training_learns(results):
    losses = results[0]["training_losses"]
    assert len(losses) == STEPS
    assert losses[0] > 5.0  # ln 256 = 5.55: it starts from nothing
    assert sum(losses[-10:]) / 10 < results[0]["unigram"] + 0.2 < losses[0] - 1.0


def test_baselines_are_in_order(results):
    assert 1.0 < results[0]["bigram"] < results[0]["unigram"] < 5.55


def test_the_same_seed_gives_the_same_numbers(results):
    first, again, other = results
    for key in ("training_losses", "masks", "unigram", "bigram", "largest_difference"):
        assert first[key] == again[key], key
    assert first["training_losses"] != other["training_losses"]


def test_masks_agree_where_they_show_the_same_and_differ_where_not(results):
    loss = {name: mask["loss"] for name, mask in results[0]["masks"].items()}
    assert len(loss) == 4
    short, long = str(LENGTH), str(MULTIPLES[-1] * LENGTH)
    assert max(by[short] for by in loss.values()) - min(by[short] for by in loss.values()) < 1e-6
    at_the_end = [by[long] for by in loss.values()]
    assert len({round(value, 7) for value in at_the_end}) == 4, at_the_end


def test_losses_agree_with_sdpa(results):
    assert 0 < results[0]["largest_difference"] < 1e-3


def test_files_hold_the_tables_and_the_picture(runs, results):
    folder = runs[0]
    report = (folder / "report.txt").read_text(encoding="utf-8")
    for multiple in MULTIPLES:
        assert f"{multiple * LENGTH} ({multiple}x)" in report
    for name, mask in results[0]["masks"].items():
        row = next(line for line in report.splitlines() if line.startswith(name))
        assert f"{mask['loss'][str(LENGTH)]:.3f}" in row
    for name, measured in results[0]["speeds"].items():
        assert name in report
        assert len(measured["tokens_a_second"]) == len(SPEED_MULTIPLES)
        assert all(rate > 0 for rate in measured["tokens_a_second"].values())
    picture = (folder / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n") and len(picture) > 20_000


def test_without_a_cuda_engine_the_reason_is_one_line(runs, results):
    available, reason = long_layer.available()
    if available:
        assert len(results[0]["long_layer"]) == len(long_layer.LENGTHS) * 3
    else:
        report = (runs[0] / "report.txt").read_text(encoding="utf-8")
        assert f"1M tokens on CUDA: {reason}\n" in report and "\n" not in reason


@pytest.mark.parametrize("missing", [["tqdm"], ["matplotlib"], ["tqdm", "matplotlib"]])
def test_a_missing_package_is_named_before_training(monkeypatch, capsys, tmp_path, missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name)
    )
    assert demo.main([*ARGUMENTS, "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    sentence = f"{' and '.join(missing)} must be installed: pip install longattn[demo]"
    assert captured.err == f"the demo cannot run: {sentence}\n" and captured.out == ""
    assert not (tmp_path / "out").exists()


def a_file(folder):
    (folder / "file").write_text("")
    return folder / "file"


def below_a_file(folder):
    return a_file(folder) / "out"


def an_old_report_that_is_a_folder(folder):
    (folder / "out" / "report.png").mkdir(parents=True)
    return folder / "out"


def a_folder_without_permission(folder):
    (folder / "out").mkdir(mode=0o500)
    return folder / "out"


@pytest.mark.parametrize(
    "make", [a_file, below_a_file, an_old_report_that_is_a_folder, a_folder_without_permission]
)
def test_an_output_that_cannot_be_written_is_refused_before_training(
    make, monkeypatch, capsys, tmp_path
):
    if make is a_folder_without_permission and os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    monkeypatch.setattr(demo, "run", lambda *_: pytest.fail("it went on to train"))
    output = make(tmp_path)
    assert demo.main([*ARGUMENTS, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"the demo cannot run: --output {output} cannot be written: "), error
    assert error.count("\n") == 1


def test_looking_whether_the_output_can_be_written_changes_nothing(tmp_path):
    old = tmp_path / "report.txt"
    old.write_text("of an earlier run")
    assert files.why_not_writable(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]
    assert old.read_text() == "of an earlier run"


def test_the_report_explains_its_columns(runs):
    report = (runs[0] / "report.txt").read_text(encoding="utf-8")
    assert "±" in report.split("standard error of that mean")[1]  # the table comes after it
    assert "peak MB at" in report.split("peak MB: the most memory")[1]


def test_no_native_module_and_no_text_are_sentences(monkeypatch, capsys):
    assert demo.main(["--length", "100000000"]) == 1
    assert "a smaller --length fits" in capsys.readouterr().err
    monkeypatch.setattr(backends, "available", lambda device_type: (False, "it is not built"))
    assert demo.main(ARGUMENTS) == 1
    assert capsys.readouterr().err == "the demo cannot run: it is not built\n"


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--length", "7"], ["--contexts", "one"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)
    assert exit_.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_the_clock_decides_only_the_number_of_steps(corpus):
    """A run that the clock ends is repeated by the number of steps that it took."""
    causal = attends.longattn_attends(16)["causal"]
    _, timed = train(corpus, Settings(length=16, batch=2, seconds=0.4), causal)
    assert 1 <= len(timed) < 600
    _, counted = train(corpus, Settings(length=16, batch=2, steps=len(timed)), causal)
    assert counted == timed


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8])
def test_as_many_steps_are_taken_as_were_asked_for(corpus, steps):
    causal = attends.longattn_attends(16)["causal"]
    _, losses = train(corpus, Settings(length=16, batch=2, steps=steps), causal)
    assert len(losses) == steps


def test_the_report_says_how_to_repeat_it(results):
    command = results[2]["repeat"]
    assert command.startswith("python -m longattn demo --seed 1 --steps 60 --threads ")
    again = parse(command.split()[4:])
    for name in ("seed", "steps", "length", "batch", "contexts"):
        assert getattr(again, name) == results[2]["settings"][name]


@pytest.mark.parametrize("steps, threads", [(None, None), (5, None), (None, 3), (5, 1)])
def test_given_threads_and_steps_are_kept(corpus, steps, threads):
    before = torch.get_num_threads()
    settings = Settings(length=16, batch=2, steps=steps, threads=threads)
    causal = attends.longattn_attends(16)["causal"]
    chosen = threads_to_use(corpus, settings, causal)
    assert torch.get_num_threads() == before
    if threads is None and steps is None:
        assert chosen in (1, before)
    else:
        assert chosen == (threads or before)


def test_text_is_in_a_fixed_order_and_needs_no_optional_folder(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "test").mkdir()
    for number, name in enumerate(["b.py", "a.py", "package/c.py", "test/d.py", "notes.txt"]):
        (tmp_path / name).write_text(f"number = {number}\n")
    found = [path.name for path in text.library_files(tmp_path)]
    assert found == ["a.py", "b.py", "c.py"]
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    with pytest.raises(text.NotEnoughText, match="holds only .* bytes"):
        text.read_corpus(tmp_path)


def test_held_out_contexts_predict_the_same_bytes_at_every_length(corpus):
    settings = Settings(length=16, contexts=5)
    contexts = {m: evaluation.held_out_contexts(corpus, settings, m) for m in MULTIPLES}
    for multiple, context in contexts.items():
        assert context.shape == (5, 16 * multiple)
        assert torch.equal(context[:, -16:], contexts[1])


def turned_back(k, distances):
    """k [batch, keys, heads, head_dim], each key turned as RoPE does by minus its distance."""
    half = k.shape[3] // 2
    angle = -distances[:, None, None] * 10_000.0 ** -(torch.arange(half, dtype=k.dtype) / half)
    first, second = k.chunk(2, dim=-1)
    cosine, sine = angle.cos(), angle.sin()
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def test_the_ceiling_moves_sinks_and_nothing_else():
    """Against one dense softmax: near keys at their distance, far sinks as if `window` away."""
    window, length, sinks = 12, 40, attends.SINK_TOKENS
    torch.manual_seed(0)
    raw_q, raw_k, v = (torch.randn(2, length, 3, 16, dtype=torch.float64) for _ in range(3))
    i = torch.arange(length)
    distance = i[:, None] - i
    near = (distance >= 0) & (distance < window)
    far = (distance >= window) & (i < sinks)
    effective = torch.where(near, distance, window)
    scores = torch.stack(
        [
            torch.einsum("bhd,bjhd->bhj", raw_q[:, row], turned_back(raw_k, effective[row]))
            for row in range(length)
        ],
        dim=2,
    )
    weights = (scores / 4).masked_fill(~(near | far), -torch.inf).softmax(dim=-1)
    expected = torch.einsum("bhij,bjhd->bihd", weights, v)
    attend = attends.longattn_attends(window)["lambda, sink distance <= window"]
    torch.testing.assert_close(attend(raw_q, raw_k, v), expected, rtol=0, atol=1e-10)


def test_the_decoder_does_not_look_ahead(corpus):
    model, causal = Decoder(width=32, heads=2, layers=2), attends.longattn_attends(8)["causal"]
    tokens = corpus.train[:24].long()[None]
    changed = tokens.clone()
    changed[0, 15] += 1
    with torch.no_grad():
        before, after = model(tokens, causal), model(changed, causal)
    assert torch.equal(before[:, :15], after[:, :15])
    assert not torch.equal(before[:, 15:], after[:, 15:])


def test_long_layer_on_a_small_scale():
    rows = long_layer.measure(torch.device("cpu"), lengths=(64, 96), heads=2, head_dim=16)
    assert [row.length for row in rows] == [64] * 3 + [96] * 3
    assert all(row.milliseconds > 0 for row in rows)
    errors = [row.largest_error for row in rows]
    assert [error is None for error in errors] == [True, False, True] * 2
    assert 0 < errors[1] < 0.1  # bfloat16


def test_peak_memory_counts_what_a_call_holds():
    peak = memory.peak_memory(lambda: torch.ones(50_000_000), torch.device("cpu"))
    assert peak is None or 190e6 < peak < 260e6
    with_kept = memory.peak_memory(lambda: None, torch.device("cpu"))
    assert with_kept is None or with_kept < 20e6


def test_the_command_line_reaches_the_demo(capsys):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(["demo", "--help"])
    assert exit_.value.code == 0 and "--seconds" in capsys.readouterr().out
