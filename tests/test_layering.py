# SPDX-License-Identifier: BSD-3-Clause
"""The rules of the house, read from the sources: which layer may include which, and file sizes."""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NATIVE = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh"}
SOURCES = NATIVE | {".py", ".cmake"}
LONGEST = 400
WIDEST = 100

# Which layers each layer of csrc may include, besides the standard library.
MAY_INCLUDE = {
    "semantics": {"semantics"},
    "cpu": {"semantics", "cpu"},
    "cuda": {"semantics", "cuda"},
    "api": {"semantics", "cpu", "cuda", "api"},
}


def tracked() -> list:
    """What belongs to the repository; in an unpacked archive, every file but hidden ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        paths = [path for path in ROOT.rglob("*") if not is_left_out(path.relative_to(ROOT))]
    return sorted(path for path in paths if path.is_file())


def is_left_out(path) -> bool:
    """Hidden folders and what a build leaves behind."""
    return path.parts[0] in ("build", "dist") or any(part.startswith(".") for part in path.parts)


def relative(path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES = tracked()
SOURCE_FILES = [p for p in FILES if p.suffix in SOURCES or p.name == "CMakeLists.txt"]
NATIVE_FILES = [p for p in FILES if p.suffix in NATIVE and relative(p).startswith("csrc/")]


def code_of(path) -> str:
    """A C++ source without comments and string literals, line breaks kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    include = re.compile(r"^\s*#\s*include\b.*$", re.MULTILINE)
    kept = {}

    def keep(match):
        kept[f"@include{len(kept)}@"] = match.group()
        return f"@include{len(kept) - 1}@"

    text = re.sub(pattern, blank, include.sub(keep, path.read_text()), flags=re.DOTALL)
    for mark, line in kept.items():
        text = text.replace(mark, line)
    return text


def blank(match) -> str:
    return "\n" * match.group().count("\n")


def includes_of(path) -> list:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', code_of(path), re.MULTILINE)


def layer_of(path) -> str:
    return relative(path).split("/")[1]


def test_there_are_sources():
    assert len(NATIVE_FILES) > 10 and len(SOURCE_FILES) > 30
    assert {layer_of(path) for path in NATIVE_FILES} <= set(MAY_INCLUDE)


@pytest.mark.parametrize("path", NATIVE_FILES, ids=relative)
def test_includes_point_one_way(path):
    layer = layer_of(path)
    for name in includes_of(path):
        target = ROOT / "csrc" / name
        if not target.exists():
            target = path.parent / name
        if target.exists():  # ours
            included = layer_of(target.resolve())
            assert included in MAY_INCLUDE[layer], f"{layer} includes {included}: {name}"
        else:
            assert name.split("/")[0] not in MAY_INCLUDE, f"{name} does not exist"


@pytest.mark.parametrize(
    "path", [p for p in NATIVE_FILES if layer_of(p) == "semantics"], ids=relative
)
def test_semantics_needs_only_the_standard_library(path):
    for name in includes_of(path):
        standard = "/" not in name and "." not in name
        assert standard or name.startswith("semantics/"), f"semantics includes {name}"


@pytest.mark.parametrize("path", NATIVE_FILES, ids=relative)
def test_native_code_knows_no_torch(path):
    for name in includes_of(path):
        assert name.split("/")[0] not in {"torch", "ATen", "c10", "caffe2"}, name


def test_assembly_lives_in_one_folder():
    asm = re.compile(r"\b(asm|__asm__|__asm)\b")
    users = [relative(path) for path in NATIVE_FILES if asm.search(code_of(path))]
    assert [path for path in users if not path.startswith("csrc/cuda/ptx/")] == []


def test_kernels_are_launched_in_one_file():
    users = [relative(path) for path in NATIVE_FILES if "<<<" in code_of(path)]
    assert len(users) <= 1, f"launches in {users}"


@pytest.mark.parametrize("path", SOURCE_FILES, ids=relative)
def test_sources_are_short_and_licensed(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST, f"{len(lines)} lines, at most {LONGEST}"
    if lines:
        head = "\n".join(lines[:3])  # a shebang or a blank line may stand above
        assert "SPDX-License-Identifier: BSD-3-Clause" in head, "the licence line is missing"


@pytest.mark.parametrize("path", [*SOURCE_FILES, ROOT / "pyproject.toml"], ids=relative)
def test_lines_are_not_wide(path):
    """An address may be longer: it would lead nowhere in two parts."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    wide = [(n, len(line)) for n, line in lines if len(line) > WIDEST and "https://" not in line]
    assert wide == [], f"(line, characters), at most {WIDEST}"


def test_masks_import_nothing_else_of_longattn():
    """masks.py says what a mask means; it needs neither torch nor the engine."""
    tree = ast.parse((ROOT / "longattn" / "masks.py").read_text())
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            imported.append("." * node.level + (node.module or ""))
    assert imported and not [
        name for name in imported if name.startswith((".", "longattn", "torch"))
    ]


# Values that say what is computed, never how: the reference may read them.
VALUES = (
    "longattn.masks",
    "longattn.biases",
    "longattn.logn",
    "longattn.rope",
    "longattn.reference",
)


def test_reference_does_not_use_the_engine():
    """An oracle that called the engine would agree with it for the wrong reason."""
    sources = sorted((ROOT / "longattn" / "reference").glob("*.py"))
    assert sources
    for source in sources:
        tree = ast.parse(source.read_text())
        for module, name in _imports(tree):
            path = f"{module}.{name}" if module == "longattn" else module
            if path.split(".")[0] == "longattn":
                assert path.startswith(VALUES), f"{source.name} imports {path}"
        assert not re.search(r"\.rule\(|HeadRule", "".join(_without_docstrings(tree)))


def _imports(tree):
    """(module, name) of each import; name is empty for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports in longattn are absolute"
            yield from ((node.module, alias.name) for alias in node.names)


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Call, ast.Attribute, ast.Name)):
            yield ast.unparse(node) + "\n"
