"""Results: from rounds to medians, verdicts, a table and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.install import versions
from benchmarks.life import peak
from benchmarks.load import Sample
from benchmarks.workload import CONTROL, CONTROL_MS, Target, Workload


@dataclass
class Verdict:
    """A target and what became of it. ``values``: one for each round that it could be judged in."""

    text: str
    bound: float
    at_most: bool
    values: list[float]

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def word(self) -> str:
        if self.median is None:
            return "not measured"
        return "met" if (self.median <= self.bound if self.at_most else self.median >= self.bound) else "not met"


@dataclass
class Result:
    """One workload."""

    name: str
    title: str
    rounds: list[dict[str, Sample]]
    verdicts: list[Verdict] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def who(self) -> list[str]:
        return list(dict.fromkeys(name for each in self.rounds for name in each))

    def samples(self, who: str) -> list[Sample]:
        return [each[who] for each in self.rounds if who in each]


def judge(workload: Workload, rounds: list[dict[str, Sample]], skipped: dict[str, str]) -> Result:
    return Result(workload.name, workload.title, rounds, [_verdict(each, rounds) for each in workload.targets], skipped)


def _verdict(target: Target, rounds: Iterable[dict[str, Sample]]) -> Verdict:
    values = []
    for each in rounds:
        try:  # who has made errors has done less than was asked: nothing is compared with that
            values.append(target.figure({who: sample for who, sample in each.items() if not sample.errors}))
        except (KeyError, IndexError, ZeroDivisionError):
            continue
    return Verdict(target.text, target.bound, target.at_most, values)


# Text -----------------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """median (min … max)"""
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))} … {number(max(values))})"


def _rate(samples: Sequence[Sample]) -> str:
    if all(sample.operations <= 1 and not sample.size for sample in samples):
        return f"{spread([sample.seconds for sample in samples])} s" if samples[0].seconds != 1.0 else ""
    if samples[0].size >= 1 << 20:
        return f"{spread([sample.megabytes for sample in samples])} MB/s"
    return f"{spread([sample.rate for sample in samples])}/s"


def _cells(result: Result, who: str) -> list[str]:
    samples = result.samples(who)
    cpu = [sample.cpu_ms for sample in samples if sample.cpu]
    ratios = [each[who].rate / each[CONTROL].rate for each in result.rounds if who in each and CONTROL in each]
    latency = f"{number(statistics.median(s.p99 for s in samples) * 1e3)} ms" if any(s.p99 for s in samples) else ""
    used = max(peak(sample) for sample in samples)
    notes = []
    if any(sample.errors for sample in samples):
        notes.append(f"{sum(sample.errors for sample in samples)} errors")
    if statistics.median(sample.client for sample in samples) > 0.9:
        notes.append("load-bound")
    ratio = spread(ratios) if ratios and who != CONTROL else ""
    memory = f"{used:.0f} MB" if used else ""
    return [who, _rate(samples), f"{spread(cpu)} ms" if cpu else "", ratio, latency, memory, ", ".join(notes)]


HEADINGS = ["", "rate: median (min … max)", "server CPU per operation", "× control", "p99", "largest process", ""]


def plain(result: Result) -> str:
    """The workload as lines for a terminal."""
    rows = [_cells(result, who) for who in result.who()]
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
    lines = [f"\n{result.title}  [{result.name}]"]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"  {each.word.upper():<12} {each.text}: {_measured(each)}" for each in result.verdicts]
    lines += [f"  skipped: {name}: {why}" for name, why in result.skipped.items()]
    return "\n".join(lines)


def _measured(verdict: Verdict) -> str:
    return spread(verdict.values) if verdict.values else "-"


def markdown(results: Sequence[Result], about: dict[str, Any]) -> str:
    """Two tables: the targets, and what was measured."""
    verdicts = [(result, each) for result in results for each in result.verdicts]
    count = sum(each.word == "met" for _, each in verdicts)
    lines = [
        f"Measured {about['date']} at {about['commit']}: {about['processor']}, {about['cores']} cores, Linux "
        f"{about['kernel']}, Python {about['python']}; {about['rounds']} rounds of {about['seconds']:g} s. "
        f"The control took {about['control_ms']:.3f} ms of CPU per request, and CPU targets are scaled by that. "
        f"{count} of {len(verdicts)} targets met.",
        "",
        *_table(
            ["workload", "target", "measured: median (min … max)", ""],
            [[result.title, each.text, _measured(each), each.word] for result, each in verdicts],
        ),
        "",
    ]
    rows = [[result.title, *_cells(result, who)] for result in results for who in result.who()]
    lines += _table(["workload", "server", *HEADINGS[1:]], rows)
    skipped = dict(pair for result in results for pair in result.skipped.items())
    if skipped:
        lines += ["", *(f"- {name}: skipped, {why}" for name, why in skipped.items())]
    programs = ", ".join(f"{name}: {text}" for name, text in about["versions"].items())
    return "\n".join([*lines, "", f"Programs: {programs}.", ""])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines]


# Files ----------------------------------------------------------------------------------------------------------------


def about(rounds: int, seconds: float, results: Sequence[Result]) -> dict[str, Any]:
    """The machine and the run."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    control = [s.cpu_ms for result in results for s in result.samples(CONTROL)]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or "an unknown commit",
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rounds": rounds,
        "seconds": seconds,
        "control_ms": statistics.median(control) if control else CONTROL_MS,
        "versions": versions(),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def save(path: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    path.write_text(json.dumps({"about": about, "results": [asdict(each) for each in results]}, indent=1) + "\n")


def read(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """What :func:`save` wrote."""
    stored = json.loads(path.read_text())
    results = []
    for each in stored["results"]:
        rounds = [{who: Sample(**sample) for who, sample in one.items()} for one in each["rounds"]]
        verdicts = [Verdict(**verdict) for verdict in each["verdicts"]]
        results.append(Result(each["name"], each["title"], rounds, verdicts, each["skipped"]))
    return results, stored["about"]


def rewrite(page: Path, text: str) -> None:
    """Put the tables between the two markers of a page. Raises ValueError where it has none."""
    begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{page} has no place for tables")
    page.write_text(f"{before}{begin}{text}{end}{after}")
