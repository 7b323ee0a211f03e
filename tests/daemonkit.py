"""``twistd ais-s3`` as a command, and in this process as far as its options."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from server import STOP_SECONDS, TWISTD, ServerProcess, environment
from twisted.internet import reactor

from aisobj.errors import StorageError
from aisobj.listening import StartupError
from aisobj.options import Options, Settings
from aisobj.tap import assemble

OPEN = "anyone-on-the-network-may-write"


def run(cwd: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """twistd, to its end."""
    return subprocess.run(
        [TWISTD, *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STOP_SECONDS,
        check=False,
    )


def refusal(cwd: Path, *options: str, env: dict[str, str] | None = None) -> str:
    """The one line that the server refuses to start with."""
    if not {"--listen", "-l"} & set(options) and "AIS_S3_LISTEN" not in (env or {}):
        options = (*options, "--listen", "tcp:0:interface=127.0.0.1")
    ended = run(cwd, "-n", "--pidfile=", "ais-s3", *options, env={"XDG_DATA_HOME": str(cwd / "home"), **(env or {})})
    assert ended.returncode == 1, ended
    lines = ended.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ais-s3: "), ended
    assert "Traceback" not in ended.stdout, ended
    return lines[0].removeprefix("ais-s3: ")


def parsed(*options: str) -> Options:
    found = Options()
    found.parseOptions(list(options))
    return found


def refusal_in_process(cwd: Path, *options: str, env: dict[str, str] | None = None) -> str:
    """The same without a process, for what differs in its text only."""
    with pytest.raises((StartupError, StorageError, SystemExit)) as caught:
        assemble(Settings.of(parsed("--data", str(cwd / "data"), *options), env or {}), reactor)
    line = str(caught.value)
    assert "\n" not in line
    return line


def wait_until_it_accepts_no_more(server: ServerProcess) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=30).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    raise AssertionError("it still accepts")


def end_at_once(server: ServerProcess) -> None:
    """Tell it to end, and then once more, although it has requests to finish. It does."""
    server.signal(signal.SIGTERM)
    wait_until_it_accepts_no_more(server)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < 25  # the drain alone would take 30


def fetch(server: ServerProcess, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body
