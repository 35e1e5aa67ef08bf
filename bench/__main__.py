# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench`: longattn beside its rivals, in one run.

Without a command: the standard set, on one thread. `python -m bench PATTERN --help` has the
sizes of a pattern."""

from __future__ import annotations

import argparse
import pathlib
import sys

from bench import arguments, build_figures, changes, record, report, standard, summary
from bench.cases import PATTERNS
from bench.measure import Options
from bench.run import Run, print_goals, set_threads, standard_run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_measuring(made)
    commands = made.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str, measures: bool = True):
        one = commands.add_parser(name, help=text, description=text)
        if measures:
            arguments.add_measuring(one)
        return one.add_argument

    for name, case_class in PATTERNS.items():
        text = case_class.__doc__.replace("\n    ", " ").strip()
        arguments.add_pattern(commands.add_parser(name, help=text, description=text), case_class)
    command("small_call", "the overhead of a call that does next to nothing")
    command("errors", "errors against float64, ours beside the rivals'")
    add = command("scaling", "exponents of time and memory against length")
    add("--dtypes", nargs="+", default=["float32", "bfloat16"])
    add = command("forced", "the standard set's part under a forced instruction set, in a process "
                  "that is already held to it")  # fmt: skip
    add("isa", choices=standard.forced_jobs())
    add = command("goals", "the speeds that were asked for, and what a run says of each", False)
    add("file")
    add = command("report", "a folder of Markdown and pictures from saved runs", False)
    add("files", nargs="*", help="default: the committed ones")
    add("--out", required=True, metavar="FOLDER")
    add = command("compare", "what moved between two runs beyond its spread", False)
    add("before")
    add("after")
    command("readme", "write the committed results into README.md", False)
    add = command("build", "time, memory and size of a build, kept in FILE beside a run", False)
    add("--cuda", default="AUTO", choices=["AUTO", "ON", "OFF"])
    add("--jobs", type=arguments.positive)
    add("--json", metavar="FILE")
    return made


def main(words=None) -> int:
    given = parser().parse_args(words)
    if given.command in WITHOUT_MEASURING:
        return WITHOUT_MEASURING[given.command](given) or 0
    settings = {"repeats": given.repeats, "seconds": given.seconds, "seed": given.seed}
    threads = getattr(given, "threads", 1) if given.command != "threads" else 1
    options = Options(clock=set_threads(threads), **settings)
    if given.command is None:
        run = standard_run(options, settings, given.json)
    else:
        run = Run(settings, given.json, getattr(given, "device", "cpu"))
        _measure(given, run, options)
    for sentence in run.wrong():
        print(f"longattn is wrong: {sentence}", file=sys.stderr)
    return 1 if run.wrong() else 0


def _measure(given, run: Run, options: Options) -> None:
    if given.command == "small_call":
        run.small_call()
    elif given.command == "errors":
        run.errors(standard.error_jobs(), options)
    elif given.command == "scaling":
        run.scaling(given.dtypes, options)
    elif given.command == "forced":
        run.measure(standard.forced_jobs()[given.isa], options)
    else:
        run.measure(arguments.jobs(given), options)


def _goals(given) -> None:
    print_goals(record.load(given.file))


def _report(given) -> None:
    paths = [pathlib.Path(name) for name in given.files] or summary.committed()
    print(report.write([(path.stem, record.load(path)) for path in paths], given.out))


def _compare(given) -> int:
    """1 if something became worse."""
    found, remarks = changes.compare(record.load(given.before), record.load(given.after))
    for remark in remarks:
        print(remark)
    for change in found:
        print(changes.text_of(change))
    if not found:
        print("nothing moved beyond its spread")
    return 0 if all(change.better for change in found) else 1


def _build(given) -> None:
    found = build_figures.build(given.cuda, given.jobs)
    for name, value in found.items():
        print(f"{name}: {value}")
    if given.json:
        result = record.load(given.json)
        record.save(result | {"build": found}, given.json)


WITHOUT_MEASURING = {
    "goals": _goals,
    "report": _report,
    "compare": _compare,
    "readme": lambda given: summary.write(),
    "build": _build,
}

if __name__ == "__main__":
    sys.exit(main())
