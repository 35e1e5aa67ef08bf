# SPDX-License-Identifier: BSD-3-Clause
"""README.md and docs/ say what is true: their code runs, their names, files and tables are real."""

import functools
import re
from pathlib import Path

import pytest
import torch

import comparison
import longattn
from longattn import reference

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def page_name(path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path, language) -> list:
    """(line number of the first line, text) of each fenced block in that language."""
    text = path.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start(1)) + 1, match.group(1))
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def table_rows(heading) -> list:
    """Rows, as lists of cells, of the table under a heading of the README, its head left out."""
    text = README.read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE).group(1)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_runs(page):
    namespace = {}
    for line, code in blocks(page, "python"):
        padded = "\n" * (line - 1) + code  # so that a traceback shows the page's own line
        exec(compile(padded, str(page), "exec"), namespace)
    assert namespace, f"{page_name(page)} has no ```python block"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_map_names_what_exists():
    ((_, text),) = blocks(README, "text")
    paths = [line.split()[0] for line in text.splitlines()]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert all((ROOT / path).is_dir() == path.endswith("/") for path in paths)


def test_the_map_leaves_out_no_source_folder():
    ((_, text),) = blocks(README, "text")
    for parent in ("csrc", "longattn"):
        for folder in (path for path in (ROOT / parent).iterdir() if path.is_dir()):
            if list(folder.glob("*.*")) and folder.name != "__pycache__":
                assert f"{parent}/{folder.name}/" in text


def test_every_page_is_in_the_map():
    ((_, text),) = blocks(README, "text")
    assert [page_name(page) for page in PAGES[1:] if page_name(page) not in text] == []


def exists(name) -> bool:
    try:
        functools.reduce(getattr, name.split(".")[1:], longattn)
    except AttributeError:
        return False
    return True


def test_functions_of_papers_exist_unless_planned():
    rows = table_rows("Papers and functions")
    assert len(rows) > 10
    for paper, functions, state in rows:
        names = re.findall(r"`(longattn\.\w+)`", functions)
        assert state in ("here", "planned"), paper
        assert names or state == "planned", paper
        for name in names:
            assert exists(name) == (state == "here"), f"{name} is said to be {state}"


def test_public_functions_are_in_the_table():
    table = str(table_rows("Papers and functions"))
    for name in longattn.__all__:
        value = getattr(longattn, name)
        if callable(value) and not isinstance(value, type):
            assert f"longattn.{name}" in table


@pytest.mark.parametrize("row", table_rows("What works"), ids=lambda row: row[0])
def test_what_works(row):
    """Each cell of the matrix: `yes` agrees with the reference, `no` raises by name."""
    name, *cells = row
    attend, expected = (_function(name.strip("`"), module) for module in (longattn, reference))
    assert [set(cells[:2]), cells[3]] == [{"yes"}, "yes"]
    _compare(attend, expected, _inputs((1, 70), heads=2))
    _compare(attend, expected, _inputs((1, 70), heads=4))  # GQA: two key heads
    borders = torch.tensor([0, 30, 30, 70], dtype=torch.int32)
    packed = dict(cu_seqlens_q=borders, cu_seqlens_k=borders)
    if cells[2] == "yes":
        _compare(attend, expected, _inputs((70,), heads=4), **packed)
    else:
        with pytest.raises(NotImplementedError, match="cu_seqlens"):
            attend(*_inputs((1, 70), heads=2), **packed)


@pytest.mark.parametrize("row", table_rows("What works"), ids=lambda row: row[0])
def test_what_works_in_the_emulator(simt, row):
    """`emulated`: forward and backward, with grouped heads, packed where the row says so."""
    name, *cells = row
    assert cells[4] == "emulated"
    attend, expected = (_function(name.strip("`"), module) for module in (longattn, reference))
    borders = torch.tensor([0, 30, 30, 70], dtype=torch.int32)
    packed = dict(cu_seqlens_q=borders, cu_seqlens_k=borders)
    for rows, arguments in (((1, 70), {}), ((70,), packed)):
        if arguments and cells[2] == "no":
            continue
        comparison.compare(
            functools.partial(attend, backend="simt"),
            expected,
            [x.detach().bfloat16().requires_grad_() for x in _inputs(rows, heads=4)],
            arguments,
            f"{name} {rows}",
            rounding=2**-7 if name.strip("`") in ("apply_rotary", *ROTATE) else 0.0,
        )


ROPE = longattn.RotaryEmbedding(16)
ROTATE = {
    "rerope_attention": dict(rope=ROPE, window=20),
    "lm_infinite_attention": dict(rope=ROPE, window=20, sink_tokens=2, distance_ceiling=20),
    "xpos_attention": dict(rope=longattn.RotaryEmbedding.xpos(16)),
}


def _function(name, module):
    if name == "dilated_attention":
        return lambda q, k, v, **rest: module.dilated_attention(q, k, v, [16, 64], [1, 2], **rest)
    if name in ROTATE:
        return functools.partial(getattr(module, name), **ROTATE[name])
    if name == "apply_rotary":
        return lambda q, k, v, backend=None, **rest: module.attention(
            *module.apply_rotary(q, k, ROPE, backend=backend),
            v, longattn.Causal(), backend=backend, **rest,
        )  # fmt: skip
    parameters = {"table": torch.linspace(-1, 1, 4 * 50).view(4, 50), "logits": torch.ones(4)}

    def call(q, k, v, **rest):
        # What the table writes are the arguments of `attention` after q, k and v.
        few = {key: value[: q.shape[-2]] for key, value in parameters.items()}
        attend = functools.partial(module.attention, q, k, v, **rest)
        scope = {**vars(longattn), **few, "call": attend}
        return eval(f"call({name})", scope)

    return call


def _inputs(rows, heads):
    generator = torch.Generator().manual_seed(0)
    shapes = [(*rows, count, 16) for count in (heads, 2, 2)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def _compare(attend, expected, inputs, **arguments):
    ours, theirs = (f(*inputs, **arguments) for f in (attend, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    gradients = (torch.autograd.grad(out.square().sum(), inputs) for out in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


READS_A_VARIABLE = r"""(?:environ(?:\.get\(|\[)["']|ENV\{|HINTS ENV |getenv\(")(\w+)"""
READ_BY_TOOLS = {"MAX_JOBS"}  # setup.py reads it in a loop


def test_environment_variables_are_those_that_are_read():
    sources = [ROOT / "setup.py", ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]
    sources += [*(ROOT / "longattn").rglob("*.py"), *(ROOT / "csrc").rglob("*.cpp")]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    read = set(re.findall(READS_A_VARIABLE, text))
    cells = [row[0] for row in table_rows("Environment variables")]
    said = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert said - read == READ_BY_TOOLS and '"MAX_JOBS"' in text
    assert read - said == set()


def commands() -> list:
    """The README's shell commands, one each."""
    ((_, text),) = blocks(README, "sh")
    return [part.strip() for line in text.splitlines() for part in line.split("&&")]


def test_commands_are_those_that_are_run():
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("this copy of the sources has no .ci/run to compare the commands with")
    run = script.read_text()
    assert 'pip install -e ".[test]"' in commands() and "python -m pytest tests" in commands()
    for command in commands():
        if "demo" not in command:  # tests/test_demo.py runs it small
            assert command in run


def test_extras_and_commands_of_the_package_exist():
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"\.\[(\w+)\]", README.read_text(encoding="utf-8"))
    assert sorted(set(extras)) == ["demo", "test"]
    for extra in extras:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    usage = (ROOT / "longattn" / "__main__.py").read_text()
    for command in re.findall(r"python -m longattn (\w+)", README.read_text(encoding="utf-8")):
        assert f'command == "{command}"' in usage
