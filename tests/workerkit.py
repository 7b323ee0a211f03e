"""What the tests of several workers share: connections whose worker is known."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from server import ServerProcess

SECONDS = 30.0  #: far more than anything takes


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def worker(self) -> str:
        """Who answered: request ids of one process begin alike."""
        return self.headers["x-amz-request-id"][:8]


class Connection:
    """Keep-alive, so to one worker."""

    def __init__(self, server: ServerProcess) -> None:
        if not server.urls:
            raise ConnectionRefusedError("the server is down")
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        self.worker = self.ask("GET", "/-/health").worker

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._http.request(method, path, body, names)
        response = self._http.getresponse()
        return Answer(response.status, response.read(), response.headers)

    def pid(self, server: ServerProcess) -> int:
        """Of its worker."""
        port = self._http.sock.getsockname()[1]
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        [inode] = [row[9] for row in rows if row[1].endswith(f":{server.port:04X}") and row[2].endswith(f":{port:04X}")]
        [found] = [pid for pid in server.pids_of("aisobj.worker") if f"socket:[{inode}]" in _open_files(pid)]
        return found

    def close(self) -> None:
        self._http.close()


def _open_files(pid: int) -> set[str]:
    return {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}


def one_to_each(server: ServerProcess) -> list[Connection]:
    """A connection to each worker."""
    found: dict[str, Connection] = {}
    deadline = time.monotonic() + SECONDS
    while len(found) < server.workers:
        assert time.monotonic() < deadline, f"only {len(found)} workers answer"
        connection = Connection(server)
        if connection.worker in found:
            connection.close()
        found.setdefault(connection.worker, connection)
    return list(found.values())


def until(condition: Callable[[], bool], what: str, log: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}\n{log()}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Zombies are not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def read_only(connection: Connection) -> str:
    reason: str = json.loads(connection.ask("GET", "/-/ready").body)["read_only"]
    return reason


def scrape(connection: Connection) -> dict[str, float]:
    """Sample with its labels -> value."""
    text = connection.ask("GET", "/metrics").body.decode()
    return {name: float(value) for name, value in re.findall(r"^([^#\n].*) (\S+)$", text, re.MULTILINE)}
