"""``ais-s3`` as an operator runs it: a process, its exit status, what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server import environment

SECONDS = 120.0  #: far more than anything takes


def start_tool(data: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Without waiting for its end; with a pipe for each output."""
    command = [Path(sys.executable).parent / "python", "-m", "aisobj.tools", "--data", data, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(list(map(str, command)), env=environment(), stdout=pipe, stderr=pipe, text=True)


def tool(data: Path, *arguments: str | Path) -> tuple[int, str]:
    """Exit status, and what is on both outputs."""
    with start_tool(data, *arguments) as running:
        try:
            output, errors = running.communicate(timeout=SECONDS)
        except BaseException:
            running.kill()
            raise
    return running.returncode, output + errors


def tool_json(data: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """With ``--json``: exit status, the document."""
    status, text = tool(data, *arguments, "--json")
    return status, json.loads(text)


def quarantined(data: Path, path: Path, read: Callable[[], object] = lambda: None) -> Path:
    """Where a blob is now that was found corrupt; waits until it is.

    :param read: the blob once more. Where it was put back so soon that the look at it before had not ended, that one
        stands for the look that is waited for here.
    """
    taken = data / "blobs" / "quarantine" / path.name
    deadline = time.monotonic() + 15
    again = time.monotonic() + 1
    while not taken.exists():
        assert time.monotonic() < deadline, f"{path} is not quarantined"
        if time.monotonic() > again:
            again += 1
            read()
        time.sleep(0.002)
    return taken
