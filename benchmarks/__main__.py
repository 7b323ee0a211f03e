"""Every figure that docs/performance.md claims, beside other servers, in one command::

    python -m benchmarks                            # all of it: about an hour
    python -m benchmarks --quick                    # two rounds of one second, small sets: some minutes
    python -m benchmarks --only get-4k-16 put-4k-64 --peers seaweedfs nginx
    python -m benchmarks --list                     # the workloads
    python -m benchmarks --docs                     # also writes the tables and the drawing of docs/

It installs what it needs and can (``install``), starts every server on loopback in one temporary directory, and runs
each workload in rounds: ours, the peers and the control in turn inside each, so that what else the machine does falls
on all of them alike. Compare figures of one run only.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import chart, fairness, growth, large, life, report, small, transfers
from benchmarks.install import Missing, cache_directory
from benchmarks.load import Sample
from benchmarks.workload import PEERS, Bench, Workload

WORKLOADS: dict[str, Workload] = {
    each.name: each for family in (small, large, transfers, fairness, life, growth) for each in family.WORKLOADS
}
DOCS = Path(__file__).parent.parent / "docs"


def measure(bench: Bench, workload: Workload, rounds: int) -> report.Result:
    """Its rounds. Whoever cannot take part, or fails, is left out, with the reason."""
    done: list[dict[str, Sample]] = []
    skipped: dict[str, str] = {}
    for bench.round in range(min(rounds, workload.rounds or rounds)):
        samples: dict[str, Sample] = {}
        for who, (name, run) in workload.runs.items():
            if who in skipped:
                continue
            try:
                if workload.disk:
                    bench.check_room(workload.disk)
                bench.once(f"prepare {workload.name}", server := _server(bench, workload, name), workload.prepare)
                samples[who] = run(bench, server)
            except Missing as error:
                skipped[who] = str(error)
            except Exception as error:  # one workload on one server: the others go on
                skipped[who] = f"failed: {type(error).__name__}: {str(error)[:300]}"
        done.append(samples)
    if workload.disk:
        bench.wipe()
    return report.judge(workload, done, skipped)


def _server(bench: Bench, workload: Workload, name: str):  # type: ignore[no-untyped-def]
    if workload in growth.WORKLOADS:
        growth.open_sizes(bench)
    return bench.server(name)


def run(options: argparse.Namespace) -> list[report.Result]:
    results = []
    folder = Path(tempfile.mkdtemp(prefix="ais-s3-benchmarks-", dir=options.directory))
    bench = Bench(folder, options.seconds, options.quick, options.peers)
    try:
        for name in options.only or WORKLOADS:
            started = time.monotonic()
            result = measure(bench, WORKLOADS[name], options.rounds)
            results.append(result)
            print(report.plain(result), f"  ({time.monotonic() - started:.0f} s)", sep="\n", flush=True)
            if options.json:
                report.save(options.json, results, report.about(options.rounds, options.seconds, results))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # however impatient somebody is: no server stays behind
            signal.signal(number, signal.SIG_IGN)
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    return results


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), metavar="WORKLOAD", help="these (default: all)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="beside these (default: all)")
    parser.add_argument("--rounds", type=int, help="of each workload (default 5; 2 with --quick)")
    parser.add_argument("--seconds", type=float, help="of each round (default 4; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="a rough look: fewer rounds, smaller sets")
    parser.add_argument("--directory", type=Path, help="on the disk to measure (default: the temporary directory's)")
    parser.add_argument("--json", type=Path, default=cache_directory() / "results.json", help="where the results go")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and docs/performance.svg")
    parser.add_argument("--read", type=Path, metavar="JSON", help="measure nothing: use these results")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1.0 if options.quick else 4.0)
    return options


def main() -> None:
    options = parse(sys.argv[1:])
    if options.list:
        print("\n".join(f"{name:<18}{each.title}" for name, each in WORKLOADS.items()))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are stopped then too
    if options.read:
        results, about = report.read(options.read)
    else:
        results = run(options)
        about = report.about(options.rounds, options.seconds, results)
        report.save(options.json, results, about)
    drawing = DOCS / "performance.svg" if options.docs else options.json.with_suffix(".svg")
    drawing.write_text(chart.draw(results))
    if options.docs:
        report.rewrite(DOCS / "performance.md", report.markdown(results, about))
    verdicts = [each.word for result in results for each in result.verdicts]
    print(f"\n{verdicts.count('met')} met, {verdicts.count('not met')} not met, ", end="")
    print(f"{verdicts.count('not measured')} not measured. {options.json}, {drawing}")


if __name__ == "__main__":
    main()
