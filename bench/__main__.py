# SPDX-License-Identifier: BSD-3-Clause
"""`python -m bench`: longattn beside its rivals, in one run.

Without a subcommand: the standard set, on one thread. `python -m bench PATTERN --help` has the
sizes of a pattern; docs/benchmarks.md tells how to read what is printed."""

from __future__ import annotations

import argparse
import sys

from bench import arguments, small_call, standard, summary
from bench.cases import PATTERNS
from bench.measure import Options
from bench.run import Run, set_threads, standard_run


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_measuring(made)
    commands = made.add_subparsers(dest="command", metavar="COMMAND")
    for name, case_class in PATTERNS.items():
        text = case_class.__doc__.replace("\n    ", " ").strip()
        one = commands.add_parser(name, help=text, description=text)
        arguments.add_measuring(one)
        arguments.add_pattern(one, case_class)
    for name, text in {
        "small_call": "the overhead of a call that does next to nothing",
        "errors": "errors against float64, ours beside the rivals'",
        "scaling": "exponents of time and memory against length",
        "forced": "what is measured under a forced instruction set; the standard set calls it",
    }.items():
        one = commands.add_parser(name, help=text, description=text)
        arguments.add_measuring(one)
        if name == "forced":
            one.add_argument("isa", choices=standard.forced_jobs())
        if name == "scaling":
            one.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    text = "write the committed results into README.md"
    commands.add_parser("readme", help=text, description=text)
    return made


def main(words=None) -> int:
    given = parser().parse_args(words)
    if given.command == "readme":
        summary.write()
        return 0
    settings = {"repeats": given.repeats, "seconds": given.seconds, "seed": given.seed}
    threads = getattr(given, "threads", 1) if given.command != "threads" else 1
    options = Options(clock=set_threads(threads), **settings)
    if given.command is None:
        run = standard_run(options, settings, given.json)
    else:
        run = Run(settings, given.json, getattr(given, "device", "cpu"))
        _command(given, run, options)
    for sentence in run.wrong():
        print(f"longattn is wrong: {sentence}", file=sys.stderr)
    return 1 if run.wrong() else 0


def _command(given, run: Run, options: Options) -> None:
    if given.command == "small_call":
        run.result["small_call"] = small_call.overhead()
        print(small_call.text_of(run.result["small_call"]))
        run.save()
    elif given.command == "errors":
        run.errors(standard.error_jobs(), options)
    elif given.command == "scaling":
        run.scaling(given.dtypes, options)
    elif given.command == "forced":
        run.measure(standard.forced_jobs()[given.isa], options)
    else:
        run.measure(arguments.jobs(given), options)


if __name__ == "__main__":
    sys.exit(main())
