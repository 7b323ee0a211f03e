"""One target in a process of its own: ``python -m fuzzing.worker TARGET``; the last line of its output is JSON."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ATHERIS, MUTATIONS = "atheris", "mutations"
#: Memory that may be held for good: caches have a size, and fill up. Beyond it something is kept of every input.
MAX_GROWN_MIB = 96
KEPT = 40  #: inputs that one run adds to a corpus at most


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--runs", type=int, default=0, help="inputs for each target; 0: as many as the time allows")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target at most")
    parser.add_argument("--seed", type=int, default=0, help="of all that is chosen by chance; 0: any")
    parser.add_argument("--longest", type=int, default=1 << 20, help="bytes of an input, where a target takes more")
    parser.add_argument("--engine", choices=(ATHERIS, MUTATIONS), help="default: atheris, where it is installed")
    parser.add_argument("--first", action="store_true", help="stop at the first promise that is broken")
    parser.add_argument("--keep", action="store_true", help="add inputs that led to something new to the corpus")
    return parser


def main() -> None:
    options = argparse.ArgumentParser(parents=[arguments()])
    options.add_argument("target")
    chosen = options.parse_args()
    engine = chosen.engine or (ATHERIS if find_spec("atheris") else MUTATIONS)
    if engine == ATHERIS:
        by_atheris(chosen)
    else:
        print(json.dumps(by_mutations(chosen)))


class Run:
    """One run, until its inputs or its time are used up."""

    def __init__(self, options: argparse.Namespace, engine: str) -> None:
        from fuzzing import corpus  # noqa: PLC0415  (after instrumentation)
        from fuzzing.judge import Judge  # noqa: PLC0415
        from fuzzing.targets import TARGETS  # noqa: PLC0415

        self.options = options
        self.engine = engine
        self.target = TARGETS[options.target]
        self.judge = Judge(self.target)
        self.longest = min(self.target.max_size, options.longest)
        self.seeds = corpus.load(self.target.name)
        self.kept: dict[object, bytes] = {}
        self._began = time.monotonic()
        self._memory = 0.0
        self._known: set[object] = set()

    def begin(self) -> None:
        """The corpus comes first: what broke once must not break again."""
        for data in self.seeds:
            self._known.add(self.judge.run(data))
        self._memory = resident_mib()

    def step(self, data: bytes) -> object:
        """The target's label."""
        label = self.judge.run(data)
        if label not in self._known and label is not None:
            known = self.kept.get(label)
            if (known is None and len(self.kept) < 1000) or (known is not None and len(data) < len(known)):
                self.kept[label] = data
        return label

    @property
    def over(self) -> bool:
        if self.judge.executions >= self.options.runs > 0 or (self.options.first and self.judge.crashes):
            return True
        return self.judge.executions % 64 == 0 and time.monotonic() - self._began >= self.options.seconds

    def report(self) -> dict[str, Any]:
        """The line of this run."""
        from fuzzing import corpus  # noqa: PLC0415

        seconds = time.monotonic() - self._began
        grown = resident_mib() - self._memory
        crashes = [
            {"where": crash.where, "times": crash.times, "input": repr(crash.data[:2000]), "trace": crash.text[-3000:]}
            for crash in self.judge.crashes.values()
        ]
        # libFuzzer keeps inputs of its own, so what an atheris run grows by says less.
        if self.engine == MUTATIONS and grown > MAX_GROWN_MIB:
            crashes.append({"where": "memory", "times": 1, "input": "", "trace": f"{grown:.0f} MiB are kept for good"})
        if self.options.keep:
            corpus.add(self.target.name, sorted(self.kept.values(), key=len)[:KEPT])
        return {
            "target": self.target.name,
            "engine": self.engine,
            "seed": self.options.seed,
            "executions": self.judge.executions,
            "seconds": round(seconds, 1),
            "per_second": round(self.judge.executions / seconds),
            "slowest_ms": round(self.judge.slowest * 1000, 1),
            "grown_mib": round(grown, 1),
            "corpus": len(self.seeds),
            "new": len(self.kept),
            "crashes": crashes,
        }


def by_mutations(options: argparse.Namespace) -> dict[str, Any]:
    """The report of a run in this process."""
    from fuzzing.mutate import Mutator  # noqa: PLC0415

    run = Run(options, MUTATIONS)
    mutator = Mutator(run.seeds, run.target.tokens, run.longest, random.Random(options.seed))
    with run.judge.watching():
        run.begin()
        while not run.over:
            data = mutator.make()
            label = run.step(data)
            if label is not None:
                mutator.learn(data, label)
    return run.report()


def by_atheris(options: argparse.Namespace) -> None:
    """libFuzzer never returns, so the last input ends the process."""
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["aisobj"]):
        run = Run(options, ATHERIS)
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as home, run.judge.watching():
        inputs = Path(home) / "corpus"
        inputs.mkdir()
        for number, data in enumerate(run.seeds):
            (inputs / f"{number:05}").write_bytes(data)
        words = Path(home) / "words"
        words.write_text("".join(f'"{_quoted(token)}"\n' for token in run.target.tokens), encoding="ascii")

        def one(data: bytes) -> None:
            run.step(data)
            if run.over:
                print(json.dumps(run.report()), flush=True)
                shutil.rmtree(home)  # libFuzzer may have written there: an input during which the run was stopped
                os._exit(0)

        flags = [f"-seed={options.seed}", f"-max_len={run.longest}", f"-dict={words}", "-timeout=300"]
        flags += ["-rss_limit_mb=4096", "-verbosity=0", f"-artifact_prefix={home}/", "-len_control=20"]
        run.begin()
        atheris.Setup([sys.argv[0], *flags, str(inputs)], one)
        atheris.Fuzz()


def _quoted(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
