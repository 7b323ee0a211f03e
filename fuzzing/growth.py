"""``python -m fuzzing.growth``: what an input costs grows with its length, and not with the square of it.

Inputs are pumped: one word of a target's language, many times, in the middle or at the end of an input of its corpus.
Eight times as long an input may take 24 times as long (the square would be 64), or no more than thrice what half of it
takes (the square: four times), since what is long is not read in the way of what is short; and memory in proportion.
Time is CPU time, the least of some; what takes next to nothing is not compared. A line of JSON for each target, exit
status 1 where one grows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

from fuzzing import corpus
from fuzzing.target import Target
from fuzzing.targets import TARGETS

TIMES = 8
MAX_RATIO, MAX_HALF_RATIO = 24.0, 3.0
NOTHING = 0.01  #: seconds
_SEEDS = 4  #: inputs of the corpus that are pumped
#: Bytes of memory for each byte of an input, its reference's included, and what anything takes.
MAX_MEMORY, BASE_MEMORY = 400, 4 << 20


def pumped(target: Target, size: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """What goes before, what is repeated, what goes after."""
    for seed in sorted(corpus.load(target.name), key=lambda data: (len(data) > 64, len(data)))[-_SEEDS:]:
        for token in target.tokens:
            for middle in {len(seed) // 2, len(seed)}:
                if 0 < len(token) < size // (2 * TIMES):
                    yield seed[:middle], token, seed[middle:]


def judge(target: Target, sample: int = 0) -> dict[str, Any]:
    """What was measured, and what grows too fast.

    :param sample: at most so many inputs, spread over all; 0: all.
    """
    size = target.long_size
    found = []
    inputs, worst, most = 0, 0.0, 0.0
    chosen = list(pumped(target, size))
    for before, token, after in chosen[:: len(chosen) // sample or 1] if sample else chosen:
        short, half, long = (
            before + token * (length // len(token)) + after for length in (size // TIMES, size // 2, size)
        )
        inputs += 1
        took = _seconds(target, long, 1)
        worst = max(worst, took)
        if took > NOTHING and _grows(target, short, half, long):
            found.append({"word": repr(token), "before": repr(before[-100:]), "seconds": round(took, 3)})
        if inputs % 10 == 1:
            peak = _peak(target, long)
            most = max(most, peak / len(long))
            if peak > MAX_MEMORY * len(long) + BASE_MEMORY:
                found.append({"word": repr(token), "before": repr(before[-100:]), "bytes": peak})
    return {
        "target": target.name,
        "inputs": inputs,
        "bytes": size,
        "slowest_ms": round(worst * 1000, 1),
        "memory_per_byte": round(most),
        "grows": found,
    }


def _grows(target: Target, short: bytes, half: bytes, long: bytes) -> bool:
    took = _seconds(target, long, 3)
    return (
        took > NOTHING
        and took > MAX_RATIO * _seconds(target, short, 5)
        and took > MAX_HALF_RATIO * _seconds(target, half, 3)
    )


def _seconds(target: Target, data: bytes, times: int) -> float:
    least = float("inf")
    for _ in range(times):
        began = time.process_time()
        target.check(data)
        least = min(least, time.process_time() - began)
    return least


def _peak(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        target.check(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzzing.growth", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    growing = 0
    for name in parser.parse_args().targets or TARGETS:
        line = judge(TARGETS[name])
        print(json.dumps(line), flush=True)
        growing += len(line["grows"])
    sys.exit(1 if growing else 0)


if __name__ == "__main__":
    main()
