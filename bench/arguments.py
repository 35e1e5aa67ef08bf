# SPDX-License-Identifier: BSD-3-Clause
"""The command line: a subcommand for each pattern, with its fields as options."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import pathlib
import typing

import torch

from bench import timing
from bench.cases import PATTERNS, Case
from bench.measure import PARTS, Job, Options

DTYPES = ("float32", "bfloat16", "float16", "float64")
COMMON = {field.name for field in dataclasses.fields(Case)}


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """What every subcommand that measures takes."""
    add = parser.add_argument
    defaults = Options()
    add("--repeats", type=positive, default=defaults.repeats,
        help="rounds of all contenders (default %(default)s)")  # fmt: skip
    add("--seconds", type=above_zero, default=defaults.seconds,
        help="of a contender in a case; where one is slower, all run fewer rounds, but no fewer "
        f"than {timing.LEAST_ROUNDS} of --repeats (default %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, help="of the inputs (default 0)")
    add("--json", metavar="FILE", help="also write the results to this file")


def add_patterns(subparsers) -> None:
    for name, case_class in PATTERNS.items():
        text = case_class.__doc__.replace("\n    ", " ").strip()
        add_pattern(subparsers.add_parser(name, help=text, description=text), case_class)


def add_pattern(parser: argparse.ArgumentParser, case_class) -> None:
    add_measuring(parser)
    defaults = {field.name: field.default for field in dataclasses.fields(case_class)}
    add = parser.add_argument
    add("--lengths", type=positive, nargs="+", default=[defaults["length"]])
    add("--dtypes", nargs="+", default=["float32", "bfloat16"],
        choices=DTYPES)  # fmt: skip
    add("--head-dims", type=positive, nargs="+", default=[defaults["head_dim"]])
    add("--heads", type=positive, default=defaults["q_heads"])
    add("--kv-heads", type=positive, default=None, help="default: as many as --heads")
    add("--batch", type=positive, default=1)
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    add("--rivals", nargs="+", metavar="WORD", help="those whose names hold a word; default: all")
    add("--threads", type=positive, default=defaults.get("threads", 1),
        help="default %(default)s; more than one are timed by the wall clock")  # fmt: skip
    hints = typing.get_type_hints(case_class)
    for name, default in defaults.items():
        if name == "kind":
            kinds = case_class.KINDS
            add("--kinds", nargs="+", choices=kinds, default=list(kinds), help="default: all")
        elif name not in COMMON and name != "threads":
            add("--" + name.replace("_", "-"), **_option(hints[name], default))


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return value


def _option(hint, default) -> dict:
    """argparse's keywords for a field of that type."""
    if hint is tuple:
        return {"type": int, "nargs": "+", "default": list(default)}
    if hint is bool:
        return {"type": _truth, "default": default, "metavar": "true|false"}
    inner = [t for t in typing.get_args(hint) if t is not type(None)]
    if not inner:
        return {"type": hint, "default": default}

    def optional(text):
        return None if text == "none" else inner[0](text)

    return {"type": optional, "default": default, "metavar": "VALUE|none"}


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return text == "true"


def jobs(options: argparse.Namespace) -> list:
    """Every combination of the lists."""
    case_class = PATTERNS[options.command]
    own = [f.name for f in dataclasses.fields(case_class) if f.name not in COMMON]
    settings = {name: getattr(options, name) for name in own if name != "kind"}
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    settings |= {"q_heads": options.heads, "kv_heads": options.kv_heads}
    settings |= {"batch": options.batch, "device": options.device}
    lists = {"length": options.lengths, "dtype": options.dtypes, "head_dim": options.head_dims}
    if "kind" in own:
        lists["kind"] = options.kinds
    _check_kinds(case_class, options)
    cases = [
        case_class(**settings, **dict(zip(lists, values)))
        for values in itertools.product(*lists.values())
    ]
    for case in cases:
        _check(case)
    names = _rivals(cases, options.rivals)
    return [Job(case, tuple(options.parts), names) for case in cases]


def _check_kinds(case_class, options) -> None:
    """A parameter of a kind that is not asked for would be dropped silently."""
    for name, kind in getattr(case_class, "OF_KIND", {}).items():
        value, default = getattr(options, name), getattr(case_class, name)
        if kind not in options.kinds and value != default:
            raise SystemExit(
                f"--{name} {value:g} is for --kinds {kind}, got --kinds {' '.join(options.kinds)}"
            )


def _check(case) -> None:
    """Ends with a sentence where longattn does not take the case: asked with one row of it."""
    threads = torch.get_num_threads()
    one_row = dataclasses.replace(case, length=1, device="cpu")
    try:
        with torch.no_grad():
            one_row.ours()(*one_row.inputs())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise SystemExit(f"{case.pattern}: {error}") from error
    finally:
        torch.set_num_threads(threads)


def _rivals(cases: list, words):
    """Names that hold one of the words; None for all."""
    if words is None:
        return None
    names = dict.fromkeys(rival.name for case in cases for rival in case.rivals())
    for word in words:
        if not any(word.lower() in name.lower() for name in names):
            raise SystemExit(f"--rivals {word}: no name holds it; there are {', '.join(names)}")
    return tuple(n for n in names if any(word.lower() in n.lower() for word in words))


def check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda wants a GPU that torch can use, and it sees none")


def check_folder(path) -> None:
    """Ends with a sentence if a file could not be written there after all the measuring."""
    folder = pathlib.Path(path).absolute().parent if path else None
    if folder and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SystemExit(f"--json {path}: {folder} is no folder that can be written to")
