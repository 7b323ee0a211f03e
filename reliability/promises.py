"""``python -m reliability.promises``: the tests that stand for a promise of docs/reliability.md, and how they ended.

A row of the page whose figure no program measures has a marker that names the tests which hold it,
``<!-- tests.test_fsck -->...<!-- / -->``, or ``tests.test_tools::test_one+test_row_audit`` for several. They all run
once, and each row gets how many there were, and how many failed or were skipped. Exit status 1 where one failed, or
where a marker names none. ::

    python -m reliability.promises --record     # all of the page, some 5 minutes
    python -m reliability.promises test_fsck    # those rows only that name it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from reliability.record import PAGE, TESTS, markers, record

ROOT = Path(__file__).parent.parent


class Ended(NamedTuple):
    """A test that has run."""

    module: str
    name: str  #: without its parameters
    outcome: str  #: "passed", "failed" or "skipped"
    seconds: float


def named(marker: str) -> list[tuple[str, str]]:
    """(module, test or "") of each that a marker names."""
    pairs = [each.partition("::") for each in marker.removeprefix(TESTS).split("+")]
    return [(module, test) for module, _, test in pairs]


def measure(marker: str, ended: Iterable[Ended]) -> tuple[dict[str, object], float]:
    """What a row shows, and the seconds that its tests took."""
    wanted = named(marker)
    mine = [each for each in ended if (each.module, each.name) in wanted or (each.module, "") in wanted]
    outcomes = [each.outcome for each in mine]
    measured: dict[str, object] = {"tests": len(mine), "failed": outcomes.count("failed")}
    if "skipped" in outcomes:
        measured["skipped"] = outcomes.count("skipped")
    return measured, sum(each.seconds for each in mine)


def read_report(report: str) -> list[Ended]:
    """Of pytest's ``--junit-xml``, which we have just had written."""
    ended = []
    for case in ElementTree.fromstring(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        module = case.get("classname", "").split(".")[1]
        ended.append(Ended(module, case.get("name", "").partition("[")[0], outcome, float(case.get("time", "0"))))
    return ended


def run(tests: Iterable[tuple[str, str]]) -> list[Ended]:
    """Run tests, (module, test or "") each, and tell how they ended."""
    ids = sorted({f"tests/{module}.py" + (f"::{test}" if test else "") for module, test in tests})
    with tempfile.TemporaryDirectory(prefix="reliability-") as home:
        report = Path(home, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *ids]
        subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
        return read_report(report.read_text()) if report.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="modules: the rows that name one of them (default: all)")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/, and show them on the page")
    options = parser.parse_args()
    rows = [
        marker
        for marker in dict.fromkeys(markers(PAGE.read_text(), TESTS))
        if not options.only or {module for module, _ in named(marker)} & set(options.only)
    ]
    ended = run(test for marker in rows for test in named(marker))
    broken = not rows
    for marker in rows:
        measured, seconds = measure(marker, ended)
        print(json.dumps({"promise": marker, **measured, "seconds": round(seconds, 1)}))
        broken |= bool(measured["failed"]) or not measured["tests"]
        if options.record:
            record(marker, [], seconds, measured)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
