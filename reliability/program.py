"""What the programs of this directory have in common: a seed, a directory that goes away, and how they report."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reliability.record import record

Verdict = tuple[list[str], dict[str, object]]  #: broken promises; what was measured


class Program(argparse.ArgumentParser):
    """The command line of one program."""

    def __init__(self, module: str, description: str | None) -> None:
        self._name = module
        self._recorded: dict[str, object] = {}
        super().__init__(
            prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.add_argument("--seed", type=int, default=0, help="of all that is chosen by chance; 0: any")
        self.add_argument("--record", action="store_true", help="keep the result in docs/, and show it on the page")
        self.add_argument("--directory", type=Path, help="where to work; default: the system's for temporary files")

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[argparse.Namespace, Path]]:
        """The options, and an empty directory that is removed at the end."""
        options = self.parse_args()
        options.seed = options.seed or fresh_seed()
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="reliability-", dir=options.directory) as home:
            self._options, self._began = options, began
            yield options, Path(home)

    def report(self, verdict: Verdict, part: str = "") -> None:
        """Print it. Raises SystemExit where a promise is broken.

        :param part: its name, where a program has several verdicts.
        """
        faults, measured = verdict
        result = {"seed": self._options.seed, **measured, "faults": len(faults)}
        print(json.dumps(result))
        if self._options.record:
            self._recorded |= {part: result} if part else result
            record(self._name, _choices(sys.argv[1:]), time.monotonic() - self._began, self._recorded)
        if faults:
            print(*faults[:50], sep="\n", file=sys.stderr)
            raise SystemExit(1)


def _choices(arguments: list[str]) -> list[str]:
    """Without what does not change the result."""
    kept, skip = [], False
    for each in arguments:
        if not skip and each not in {"--record", "--directory", "--seed"} and not each.startswith("--directory="):
            kept.append(each)
        skip = each in {"--directory", "--seed"}
    return kept


def fresh_seed() -> int:
    return random.SystemRandom().randrange(1, 1 << 32)
