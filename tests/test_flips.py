"""The short form of ``python -m reliability.flips``, and its negative control."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from server import environment

ROOT = Path(__file__).parent.parent
SECONDS = 300.0


def flips(directory: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status, the report. What it prints, the seed with it, is shown where the test fails."""
    command = [sys.executable, "-m", "reliability.flips", "--directory", str(directory), *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    print(ended.stderr, ended.stdout)
    return ended.returncode, json.loads(ended.stdout)


def fast(tmp_path: Path) -> Path:
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path


def test_no_flipped_byte_is_ever_served(tmp_path: Path) -> None:
    status, report = flips(fast(tmp_path), "--objects", "6", "--flips", "2000")
    assert status == 0
    assert (report["flips"], report["wrong"]) == (2000, 0)
    # Counters and owners are in no answer; whatever else is flipped is noticed, and a blob goes into quarantine.
    for kind, verdicts in report["verdicts"].items():
        assert set(verdicts) == ({"right"} if kind in ("row B", "row C") else {"refused"}), kind
    assert report["quarantined"] == report["verdicts"]["file"]["refused"] > 1000


def test_a_server_that_verifies_nothing_is_found_out(tmp_path: Path) -> None:
    status, report = flips(fast(tmp_path), "--objects", "4", "--flips", "300", "--unverified")
    assert status == 1
    assert report["wrong"] > 100
