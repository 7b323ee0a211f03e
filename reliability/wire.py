"""HTTP on a socket of one's own, for programs that stop in the middle: no client library lets them."""

from __future__ import annotations

import os
import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HANG_SECONDS = 300.0
MIB = 1 << 20


class Wire:
    """One connection to a server on this machine. A context that closes it.

    :param source: the address it comes from, one of 127.0.0.0/8.
    :param seconds: hang limit of each call.
    """

    def __init__(self, port: int, source: str = "127.0.0.1", seconds: float = HANG_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), seconds, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def begin(self, method: str, target: str, length: int | None = None, **headers: str) -> None:
        """Send a head."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer. Raises ConnectionError."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionResetError(f"the connection ended after {data!r}")
            data += piece
        head, _, self._rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}

    def body(self, length: int, take: Callable[[memoryview], object]) -> int:
        """Hand over what comes of a body; how many bytes that was."""
        rest, self._rest = self._rest[:length], self._rest[length:]
        take(memoryview(rest))
        had, buffer = len(rest), memoryview(bytearray(min(MIB, max(length, 1))))
        while had < length:
            count = self.socket.recv_into(buffer[: length - had])
            if not count:
                break
            take(buffer[:count])
            had += count
        return had

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """A whole one. Raises ConnectionError, also where it is cut."""
        status, headers = self.head()
        length, body = int(headers.get("content-length", "0")), bytearray()
        if self.body(length, body.extend) < length:
            raise ConnectionResetError(f"{len(body)} bytes of {length} have come")
        return status, headers, bytes(body)

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """A whole exchange."""
        self.begin(method, target, None if body is None else len(body), **headers)
        if body:
            self.socket.sendall(body)
        status, _, answer = self.answer()
        return status, answer

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resident(pid: int) -> int:
    """Bytes of RssAnon and RssShmem of a process; 0 when it has ended. Mapped pages of the index are not counted."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(1024 * int(size) for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))


def open_files(pid: int) -> int:
    """How many a process has, without those of the metrics, which are opened when they are first needed."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            count += not os.readlink(f"/proc/{pid}/fd/{name}").endswith(".db")
    return count


class Peak:
    """The most that any one of some processes took, looked at every 50 ms.

    :ivar bytes: that.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.bytes = 0
        self._pids = pids
        self._end = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[Peak]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        while True:
            self.bytes = max([self.bytes, *map(resident, self._pids())])
            if self._end.wait(0.05):
                return


def allow_many_files() -> None:
    """To us, and to whom we start: one for each connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
