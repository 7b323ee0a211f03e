"""What the programs of this directory have in common: a seed, a directory that goes away, and how they report."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

Verdict = tuple[list[str], dict[str, object]]  #: broken promises; what was measured


class Program(argparse.ArgumentParser):
    """The command line of one program."""

    def __init__(self, module: str, description: str | None) -> None:
        super().__init__(
            prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.add_argument("--seed", type=int, default=0, help="of all that is chosen by chance; 0: any")
        self.add_argument("--directory", type=Path, help="where to work; default: the system's for temporary files")

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[argparse.Namespace, Path]]:
        """The options, and an empty directory that is removed at the end."""
        options = self.parse_args()
        options.seed = options.seed or fresh_seed()
        with tempfile.TemporaryDirectory(prefix="reliability-", dir=options.directory) as home:
            self._seed = options.seed
            yield options, Path(home)

    def report(self, verdict: Verdict) -> None:
        """Print it. Raises SystemExit where a promise is broken."""
        faults, measured = verdict
        print(json.dumps({"seed": self._seed, **measured, "faults": len(faults)}))
        if faults:
            print(*faults[:50], sep="\n", file=sys.stderr)
            raise SystemExit(1)


def fresh_seed() -> int:
    return random.SystemRandom().randrange(1, 1 << 32)
