"""GET, HEAD and PUT take no more instructions than they did (``benchmarks/instructions.py``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SKIPPED = 77


def test_no_path_takes_over_a_tenth_more_instructions_than_the_baseline() -> None:
    command = [sys.executable, "-m", "benchmarks.instructions"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if ended.returncode == SKIPPED:
        pytest.skip(ended.stdout.strip())
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "head" in ended.stdout
