"""The short form of ``python -m fuzzing``: its corpora are replayed, each target runs for a while, and none is blind.

``FUZZ_SECONDS`` sets how long each target runs, ``FUZZ_SEED`` chooses another seed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from server import environment

from fuzzing import corpus, growth
from fuzzing.judge import Judge
from fuzzing.target import Target, pieces
from fuzzing.targets import TARGETS

ROOT = Path(__file__).parent.parent
SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))
#: Always the same, so that a change is judged by what it changes; the soak looks further, with seeds of its own.
SEED = os.environ.get("FUZZ_SEED", "20261125")
#: All corpora together stay small enough to be read by people.
MAX_CORPUS_BYTES = 300_000


def lines(module: str, *arguments: str, seconds: float) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and report of a program. What it printed, the seed with it, is shown where the test fails."""
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=seconds, check=False
    )
    print(ended.stderr[-3000:], ended.stdout)
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_breaks_a_promise(name: str) -> None:
    judge = Judge(TARGETS[name])
    inputs = corpus.load(name)
    with judge.watching():
        for data in inputs:
            judge.run(data)
    assert len(inputs) >= 5
    assert [crash.text for crash in judge.crashes.values()] == []


def test_the_corpora_are_small_and_each_has_its_target() -> None:
    files = list(corpus.DIRECTORY.iterdir())
    assert {file.stem for file in files} == set(TARGETS)
    assert sum(file.stat().st_size for file in files) < MAX_CORPUS_BYTES


def test_every_target_runs_for_a_while_and_finds_nothing() -> None:
    rounds = -(-len(TARGETS) // (os.cpu_count() or 1))
    status, report = lines("fuzzing", "--seconds", str(SECONDS), "--seed", SEED, seconds=rounds * (SECONDS + 60))
    assert [(line["target"], line["crashes"]) for line in report] == [(name, []) for name in TARGETS]
    assert status == 0
    # That something was run at all; how much, the machine decides.
    assert min(line["executions"] for line in report) > 100 * min(SECONDS, 1)


def test_no_target_is_blind() -> None:
    """A bug is planted for each promise of each target."""
    status, report = lines("fuzzing.planted", seconds=600)
    assert [line for line in report if not line["found"]] == []
    assert {line["target"] for line in report} == set(TARGETS)
    assert {
        "declared errors",
        "round trip",
        "idempotence",
        "any pieces",
        "another reader",
        "safety",
        "memory",
        "time",
    } == {line["kind"] for line in report}
    assert status == 0


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_takes_more_than_its_length(name: str) -> None:
    report = growth.judge(TARGETS[name], sample=40)
    assert report["inputs"] > 10
    assert report["grows"] == []


def test_what_takes_the_square_of_its_length_is_found() -> None:
    words = [b"abcdefgh"]
    slow = Target("range", lambda data: [data.count(b"c", at) for at in range(0, len(data), 2)], "", words)
    assert growth.judge(slow)["grows"]
    hungry = Target("range", lambda data: [bytes(1000) for _ in data], "", words)
    assert growth.judge(hungry)["grows"]


def test_pieces_are_all_of_it_and_always_the_same() -> None:
    cut = list(pieces(bytes(range(100))))
    assert b"".join(cut) == bytes(range(100))
    assert len(cut) > 1
    assert cut == list(pieces(bytes(range(100))))
