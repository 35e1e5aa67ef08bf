# SPDX-License-Identifier: BSD-3-Clause
"""Commands that measure no times: what is made of saved runs, and tools for developers."""

from __future__ import annotations

import argparse
import pathlib

import torch

from bench import (
    arguments,
    build_figures,
    changes,
    gate,
    goals,
    profile,
    record,
    sass,
    summary,
)


def add_all(commands) -> None:
    """Subparsers whose `run` takes the parsed arguments and returns an exit code or None."""

    def command(run, name: str, text: str):
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        return one.add_argument

    add = command(_goals, "goals", "the speeds that were asked for, and what a run says of each")
    add("file")
    add = command(_report, "report", "a folder of Markdown and pictures from saved runs")
    add("files", nargs="*", help="default: the committed ones")
    add("--out", required=True, metavar="FOLDER")
    add = command(_compare, "compare", "what moved between two runs beyond its spread")
    add("before")
    add("after")
    command(_readme, "readme", "write the committed results into README.md")
    command(_gates, "gates", "measure the ratios whose floors `pytest bench` demands")
    add = command(_build, "build", "time, memory and size of a build")
    add("--cuda", default="AUTO", choices=["AUTO", "ON", "OFF"])
    add("--jobs", type=arguments.positive)
    add("--json", metavar="FILE", help="a saved run, to which the figures are added")
    add = command(_sass, "sass", "registers, spills and instructions of the CUDA kernels")
    add("files", nargs="*", help="one object or native module, or two to compare; default: compile")
    add("--architecture", default="80", help="to compile for (default 80)")
    add("--lines", action="store_true", help="of two files: show the instructions that differ")
    add = command(_profile, "profile", "what limits a case: command lines of profilers, run here")
    add("--out", default="profile", metavar="FOLDER", help="default: profile")
    add("case", nargs=argparse.REMAINDER, help="a pattern with its sizes, as for measuring")
    add = command(_once, "once", "longattn's calls of a case and nothing else, for a profiler")
    add("--calls", type=arguments.positive, default=2)
    add("case", nargs=argparse.REMAINDER, help="a pattern with its sizes, as for measuring")


def _goals(given) -> None:
    goals.tell(record.load(given.file))


def _report(given) -> None:
    from bench import report  # here: matplotlib is no dependency of a measurement

    paths = [pathlib.Path(name) for name in given.files] or summary.committed()
    print(report.write([(path.stem, record.load(path)) for path in paths], given.out))


def _compare(given) -> int:
    """1 if something became worse."""
    before, after = record.load(given.before), record.load(given.after)
    found, remarks = changes.compare(before, after)
    lost = changes.lost(before, after)
    for line in [*remarks, *(f"WORSE  {one}" for one in lost), *map(changes.text_of, found)]:
        print(line)
    if not found and not lost:
        print("nothing moved beyond its spread")
    return 0 if all(change.better for change in found) and not lost else 1


def _readme(given) -> None:
    summary.write()


def _gates(given) -> None:
    torch.set_num_threads(1)
    gate.record_all()


def _build(given) -> None:
    found = build_figures.build(given.cuda, given.jobs)
    for name, value in found.items():
        print(f"{name}: {value}")
    if given.json:
        record.save(record.load(given.json) | {"build": found}, given.json)


def _sass(given) -> None:
    if len(given.files) > 2:
        raise SystemExit(f"one or two files can be read, got {len(given.files)}")
    print(sass.report(given.files, given.architecture, given.lines))


def _profile(given) -> None:
    job = _one_job(given.case)
    profile.profile(given.case, job.case.device, given.out)


def _once(given) -> None:
    job = _one_job(given.case)
    torch.set_num_threads(1)
    profile.run_once(job.case, "forward" if job.parts == ("forward",) else "both", given.calls)


def _one_job(words: list):
    parser = argparse.ArgumentParser(prog="a case")
    arguments.add_patterns(parser.add_subparsers(dest="command", required=True))
    jobs = arguments.jobs(parser.parse_args(words))
    if len(jobs) != 1:
        raise SystemExit(
            f"one case is wanted, {' '.join(words)!r} makes {len(jobs)}: give one of --lengths, "
            "--dtypes, --head-dims and --kinds"
        )
    return jobs[0]
