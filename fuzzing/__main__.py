"""``python -m fuzzing``: every target, or those that are named, some at a time; a line of JSON for each.

Exit status: 0 nothing was found; 1 something was, which the line says, with the shortest input that shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fuzzing.targets import TARGETS
from fuzzing.worker import arguments
from reliability.record import record

#: How much longer than it was told a worker may take: to start, to replay its corpus, to end.
_MARGIN = 240.0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fuzzing",
        description=__doc__,
        parents=[arguments()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--record", action="store_true", help="keep the results in docs/, and show them on the page")
    options = parser.parse_args()
    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    options.seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    found = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda name: run(name, options), options.targets or list(TARGETS)):
            print(json.dumps(line), flush=True)
            found += len(line["crashes"])
            if options.record:
                _record(line, options)
    sys.exit(1 if found else 0)


def _record(line: dict[str, Any], options: argparse.Namespace) -> None:
    shown = ("engine", "seed", "executions", "per_second")
    measured = {name.replace("_", " "): line[name] for name in shown if name in line}
    name = "fuzzing." + line["target"].replace("-", "_")
    longest = [] if options.longest >= TARGETS[line["target"]].max_size else ["--longest", str(options.longest)]
    record(name, longest, line.get("seconds", 0.0), {**measured, "crashes": len(line["crashes"])})


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the worker of one target reports. One that dies has found something, too."""
    command = [sys.executable, "-m", "fuzzing.worker", name, "--seed", str(options.seed)]
    command += ["--runs", str(options.runs), "--seconds", str(options.seconds)]
    command += ["--longest", str(options.longest)]
    if options.engine:
        command += ["--engine", options.engine]
    if options.keep:
        command.append("--keep")
    try:
        ended = subprocess.run(
            command,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=options.seconds + _MARGIN,
            check=False,
        )
        line: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"target": name, "seed": options.seed, "crashes": [{"where": "it hangs"}]}
    except (ValueError, IndexError):
        trace = (ended.stderr + ended.stdout)[-3000:]
        crash = {"where": f"the process ended with status {ended.returncode}", "trace": trace}
        return {"target": name, "seed": options.seed, "crashes": [crash]}
    return line


if __name__ == "__main__":
    main()
