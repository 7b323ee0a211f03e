"""How many instructions a GET, a HEAD and a PUT take: figures that do not move with noise, for a gate in CI.

``valgrind --tool=callgrind`` counts them in one process, which answers requests as ``inprocess`` hands them to its
channels. It calls ``getppid`` at each boundary, where callgrind writes down what it has counted since the last one. Of
each path so many requests and then several times as many are counted; the difference holds nothing that happens once.
A fixed piece of plain Python is counted in the same way, and the figure is the ratio: what a release of Python, its
build or the compiler changes for all alike drops out. The index writer's own process is not counted. ::

    python -m benchmarks.instructions               # counts, and beside them the baseline
    python -m benchmarks.instructions --refresh     # makes them the baseline of this build of Python

``tests/test_instructions.py`` fails where a path takes more than 10 % above the baseline. A build of Python that
has none is measured and printed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

BASELINE = Path(__file__).with_name("instructions.json")
#: the most that a path may grow
TOLERANCE = 0.10
FEW, MANY = 64, 256
REPEATS = 3
_COUNTS = (0, FEW, MANY)  # log lines are made 64 at a time: multiples hold whole batches
PATHS = ("get", "head", "put")
CONTROL = "control"
#: exit status where nothing can be counted
SKIPPED = 77
#: Whose baseline it is: the build too, since one that was made with profiles (Debian's, not pyenv's) speeds some code
#: up more than other code, which no control evens out.
_BUILD = (
    f"{sys.version_info.major}.{sys.version_info.minor} {platform.machine()} "
    + hashlib.sha256(f"{sysconfig.get_config_var('CONFIG_ARGS')} {platform.python_compiler()}".encode()).hexdigest()[:8]
)
#: valgrind has no room for the index's usual address space
_MAP_SIZE = 1 << 30


def control(count: int) -> int:
    """The fixed piece of Python. Never change it: every baseline is a ratio to it."""
    total = 0
    for number in range(count):
        seen: dict[bytes, int] = {}
        for word in b"GET /s3/bucket/key?X-Amz-Signature=%d HTTP/1.1" % number, b"Host: 127.0.0.1:8080":
            for part in word.split(b" "):
                seen[part] = seen.get(part, 0) + len(part.strip().lower())
        total += sum(seen.values()) + len("".join(sorted(str(key) for key in seen)))
    return total


# Counting -------------------------------------------------------------------------------------------------------------


def count(valgrind: str, paths: Sequence[str] = PATHS) -> dict[str, float]:
    """Instructions per request of each path, and per turn of ``control``."""
    with tempfile.TemporaryDirectory(prefix="ais-s3-instructions-") as name:
        folder = Path(name)
        requests = _requests(folder, paths)
        command = [valgrind, "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder / 'counted'}"]
        command += [sys.executable, "-m", "benchmarks.instructions", "--harness", str(requests)]
        environment = os.environ | {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]),
        }
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
        if ended.returncode:
            raise RuntimeError(f"the harness failed: {ended.stderr[-3000:]}")
        marks = len(_COUNTS) * REPEATS * (len(paths) + 1)
        totals = iter([_total(folder / f"counted.{number}") for number in range(1, marks + 1)])
    counts = {}
    for path in (CONTROL, *paths):
        # Of each three the first is what came in between. Timers only ever add: the least of each counts.
        repeats = [(next(totals), next(totals), next(totals)) for _ in range(REPEATS)]
        few, many = (min(each[column] for each in repeats) for column in (1, 2))
        counts[path] = (many - few) / (MANY - FEW)
    return counts


def _total(path: Path) -> int:
    found = re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE)
    assert found is not None, f"callgrind counted nothing in {path.name}"
    return int(found[1])


def _requests(folder: Path, paths: Sequence[str]) -> Path:
    """What is asked, signed beforehand."""
    from benchmarks.request_cost import fill, gets, heads, puts  # noqa: PLC0415 (botocore: not where it is counted)

    makers = {"get": gets, "head": heads, "put": puts}
    made = {"fill": fill(), **{name: makers[name]() for name in paths}}
    file = folder / "requests.json"
    file.write_text(json.dumps({name: [each.decode("latin-1") for each in some] for name, some in made.items()}))
    return file


def mark() -> None:
    """Where callgrind writes down what it has counted."""
    os.getppid()


def harness(file: Path) -> None:
    """The counted process."""
    control(FEW)
    for turns in _COUNTS * REPEATS:
        control(turns)
        mark()
    requests = {name: [each.encode("latin-1") for each in some] for name, some in json.loads(file.read_text()).items()}

    from aisobj.storage import lmdb_env  # noqa: PLC0415

    lmdb_env.MAP_SIZE = _MAP_SIZE  # type: ignore[misc]  # before anybody takes it for a default
    from benchmarks.inprocess import serving  # noqa: PLC0415

    async def run(reactor: Any) -> None:
        async with serving(reactor) as channels:
            for request in requests.pop("fill"):
                await channels.run([request], 1, 1)
            for path, made in requests.items():
                await channels.run(made, FEW, 1)
                # Whether a collection falls into the counted part is chance, and one of everything that has been
                # imported makes a tenth of a GET.
                gc.collect()
                gc.disable()
                for turns in _COUNTS * REPEATS:
                    if path == "put":  # one at a time: how many commits share a transaction is chance
                        if turns:
                            await channels.run(made, turns, 1)
                    else:
                        channels.loop(made, turns)
                    mark()

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


# The baseline ---------------------------------------------------------------------------------------------------------


def ratios(counts: dict[str, float]) -> dict[str, float]:
    """Of each path, how many turns of ``control`` it is worth."""
    return {name: value / counts[CONTROL] for name, value in counts.items() if name != CONTROL}


def baseline() -> dict[str, float] | None:
    """Of this release of Python, or None."""
    stored: dict[str, dict[str, float]] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    return stored.get(_BUILD)


def refresh(found: dict[str, float]) -> None:
    stored = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    stored[_BUILD] = {name: round(value, 3) for name, value in found.items()}
    BASELINE.write_text(json.dumps(dict(sorted(stored.items())), indent=2) + "\n")


def regressions(found: dict[str, float], before: dict[str, float]) -> list[str]:
    """What has grown by more than the tolerance, as lines."""
    return [
        f"{name}: {found[name]:.3f}, {found[name] / before[name] - 1:+.1%} on the baseline of {before[name]:.3f}"
        for name in found
        if found[name] > before[name] * (1 + TOLERANCE)
    ]


def table(counts: dict[str, float]) -> str:
    before = baseline() or {}
    lines = [f"control   {counts[CONTROL]:>12,.0f} instructions"]
    for name, ratio in ratios(counts).items():
        change = f"{ratio / before[name] - 1:+8.1%} on {before[name]:.3f}" if name in before else "  no baseline"
        lines.append(f"{name:<10}{counts[name]:>12,.0f} instructions{ratio:>10.3f} x control{change}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refresh", action="store_true", help=f"write {BASELINE.name}")
    parser.add_argument("--harness", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.harness:
        harness(options.harness)
        return
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("valgrind is not installed (Debian: apt-get install valgrind)")
        raise SystemExit(SKIPPED)
    counts = count(valgrind)
    print(table(counts))
    if options.refresh:
        refresh(ratios(counts))
    elif (before := baseline()) is not None and (grown := regressions(ratios(counts), before)):
        raise SystemExit("\n".join(grown))


if __name__ == "__main__":
    main()
