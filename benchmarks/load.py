"""Load on a server, and what it costs the server: one :class:`Sample` for each workload, server and round.

``wrk`` where the answers have bodies: presigned URLs made beforehand, kept-alive connections, so that it spends nothing
on signatures. Loops of our own where wrk will not do: it waits for the body of a HEAD, and it copies a large body
several times for each PUT. Each sample says what share of a core the load itself took (``client``): where that comes
close to 1, the rate is the load's and not the server's.
"""

from __future__ import annotations

import os
import re
import resource
import select
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.install import program
from benchmarks.servers import Server

_LUA = """
local urls, next, body = {}, 0, nil
for line in io.lines("%(urls)s") do urls[#urls + 1] = line end
if "%(body)s" ~= "" then local f = io.open("%(body)s", "rb"); body = f:read("*all"); f:close() end
request = function()
  next = next + 1
  return wrk.format("%(method)s", urls[(next - 1) %% #urls + 1], nil, body)
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("result %%d %%d %%d %%f %%f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Sample:
    """One workload on one server in one round. Times are seconds."""

    operations: int
    seconds: float
    cpu: float = 0.0  #: of all the server's processes, user and system
    size: int = 0  #: bytes that an operation moves
    p50: float = 0.0
    p99: float = 0.0
    errors: int = 0
    client: float = 0.0  #: cores that the load took
    memory: dict[str, int] = field(default_factory=dict)  #: the most of each of the server's processes, bytes
    more: dict[str, float] = field(default_factory=dict)  #: what else the workload found out

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of the server's CPU per operation."""
        return self.cpu / self.operations * 1e3 if self.operations else 0.0

    @property
    def megabytes(self) -> float:
        """MB/s."""
        return self.rate * self.size / 1e6


def _own_cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


class Watch:
    """Measures what a server and the load spend between ``with`` and its end, and the most memory that it held."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample_memory)
        self.memory: dict[str, int] = {}
        self.seconds = self.cpu = self.client = 0.0

    def __enter__(self) -> Watch:
        self._sampler.start()
        self._client, self._cpu, self._started = _own_cpu(), self._server.cpu(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._started
        self.cpu = self._server.cpu() - self._cpu
        self.client = (_own_cpu() - self._client) / self.seconds
        self._ended.set()
        self._sampler.join()

    def _sample_memory(self) -> None:
        while True:
            for name, used in self._server.memory().items():
                self.memory[name] = max(used, self.memory.get(name, 0))
            if self._ended.wait(0.25):
                return

    def sample(self, operations: int, size: int = 0, errors: int = 0, latencies: Sequence[float] = ()) -> Sample:
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        return Sample(operations, self.seconds, self.cpu, size, p50, p99, errors, self.client, self.memory)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def wrk(
    server: Server,
    targets: Sequence[str],
    *,
    method: str = "GET",
    body: bytes = b"",
    connections: int,
    seconds: float,
    size: int = 0,
) -> Sample:
    """wrk over the targets in turn."""
    origin = "/".join(server.url.split("/", 3)[:3])
    with tempfile.TemporaryDirectory(prefix="ais-s3-wrk-") as name:
        folder = Path(name)
        (folder / "urls").write_text("\n".join(targets))
        (folder / "body").write_bytes(body)
        script = folder / "load.lua"
        values = {"urls": folder / "urls", "body": folder / "body" if body else "", "method": method}
        script.write_text(_LUA % values)
        duration = max(1, round(seconds))
        command = [program("wrk"), "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "60", "-s", str(script)]
        with Watch(server) as watch:
            ended = subprocess.run(
                [*command, origin], capture_output=True, text=True, check=True, timeout=duration + 120
            )
    found = re.search(r"result (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", ended.stdout)
    assert found is not None, ended.stdout
    count, microseconds, errors = (int(text) for text in found.groups()[:3])
    sample = watch.sample(count, size, errors)
    sample.seconds = microseconds / 1e6
    sample.p50, sample.p99 = float(found[4]) / 1e6, float(found[5]) / 1e6
    return sample


def bodiless(
    server: Server,
    method: str,
    targets: Sequence[str],
    *,
    connections: int,
    seconds: float,
    once: bool = False,
    pace: float = 0.0,
) -> Sample:
    """:func:`exchange` of requests whose answers have no body."""
    host, port = server.address
    requests = [f"{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() for target in targets]
    return exchange(server, requests, connections=connections, seconds=seconds, once=once, pace=pace)


def exchange(
    server: Server,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    once: bool = False,
    pace: float = 0.0,
) -> Sample:
    """Whole requests in turn, one at a time on each connection, with short answers.

    :param once: each at most once: a DELETE of what is not there is not a DELETE.
    :param pace: so many requests a second at most; 0 is as fast as it goes.
    """
    sockets: dict[int, socket.socket] = {}
    for _ in range(min(connections, len(requests))):
        connection = socket.create_connection(server.address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
    with Watch(server) as watch:
        latencies, failed = _exchange(sockets, requests, time.monotonic() + seconds, once, pace)
    for connection in sockets.values():
        connection.close()
    sample = watch.sample(len(latencies), 0, failed, latencies)
    sample.more["max ms"] = max(latencies, default=0.0) * 1e3
    return sample


def _exchange(
    sockets: dict[int, socket.socket], requests: Sequence[bytes], end: float, once: bool, pace: float
) -> tuple[list[float], int]:
    """(latency of each, how many failed)"""
    clock, poll = time.monotonic, select.epoll()
    started: dict[int, float] = {}
    latencies: list[float] = []
    parts: dict[int, bytes] = {}
    idle, head = list(sockets), requests[0].startswith(b"HEAD")
    sent = failed = 0
    begun, most, step = clock(), len(requests) if once else 1 << 60, 1 / pace if pace else 0.0
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    while True:
        now = clock()
        while idle and sent < most and now < end and begun + sent * step <= now:
            number = idle.pop()
            started[number] = now
            sockets[number].send(requests[sent % len(requests)])
            sent += 1
        if len(latencies) == sent and (now >= end or sent >= most):
            break
        pause = max(0.0, begun + sent * step - now) if idle and now < end and pace else 60.0
        ready = poll.poll(pause)
        if not ready and pause == 60.0:
            raise RuntimeError("no answer in a minute")
        for number, _ in ready:
            answer = parts.pop(number, b"") + sockets[number].recv(65536)
            if not answer:
                raise RuntimeError("the server closed a connection")
            if not _is_whole(answer, head):
                parts[number] = answer
                continue
            latencies.append(clock() - started[number])
            failed += not answer.startswith(b"HTTP/1.1 2")
            idle.append(number)
    poll.close()
    return latencies, failed


def _is_whole(answer: bytes, head: bool) -> bool:
    """Whether it is all of an answer. :param head: to a HEAD."""
    first, found, rest = answer.partition(b"\r\n\r\n")
    if head or not found or answer[9:12] == b"204":
        return bool(found)
    length = _LENGTH.search(first)
    return len(rest) == int(length[1]) if length else rest.endswith(b"0\r\n\r\n")


def downloads(
    server: Server, targets: Sequence[str], *, size: int, seconds: float, headers: str = "", tls: bool = False
) -> Sample:
    """GETs of large bodies, one connection and thread for each of ``targets``.

    wrk reads 8 KiB at a time and parses them, which takes more of a core than sending them does. Here the kernel is
    told to drop what has arrived (MSG_TRUNC); over TLS it is decrypted.
    """
    host, port = server.address_of(tls)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def get(target: str) -> list[tuple[float, bool]]:
        done: list[tuple[float, bool]] = []
        request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode()
        plain = socket.create_connection((host, port), 60)
        buffer = bytearray(1 << 20)
        with context.wrap_socket(plain) if tls else plain as connection:
            while time.monotonic() < end:
                started = time.monotonic()
                connection.sendall(request)
                answer = connection.recv(65536)
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536)
                left = size - len(answer.partition(b"\r\n\r\n")[2])
                while left > 0:
                    most = min(left, len(buffer))
                    count = connection.recv_into(buffer, most, 0 if tls else socket.MSG_TRUNC)
                    if not count:
                        raise RuntimeError("the server closed a connection")
                    left -= count
                done.append((time.monotonic() - started, answer.startswith(b"HTTP/1.1 2")))
        return done

    with Watch(server) as watch, ThreadPoolExecutor(len(targets)) as pool:
        end = time.monotonic() + seconds
        results = [each for done in pool.map(get, targets) for each in done]
    return watch.sample(len(results), size, sum(not ok for _, ok in results), [taken for taken, _ in results])


def uploads(
    server: Server, heads: Sequence[Callable[[], bytes]], body: Path, *, seconds: float, most: int = 1 << 30
) -> Sample:
    """PUTs of a large body by ``sendfile``, one connection for each of ``heads``, which make a request's head.

    :param most: of them on each connection.
    """
    size = body.stat().st_size

    def put(head: Callable[[], bytes]) -> list[tuple[float, bool]]:
        done: list[tuple[float, bool]] = []
        with socket.create_connection(server.address) as connection, body.open("rb") as file:
            while time.monotonic() < end and len(done) < most:
                started = time.monotonic()
                connection.sendall(head())
                file.seek(0)
                connection.sendfile(file)
                answer = connection.recv(65536)
                while answer.startswith(b"HTTP/1.1 100"):
                    answer = answer.partition(b"\r\n\r\n")[2] or connection.recv(65536)
                done.append((time.monotonic() - started, answer.startswith(b"HTTP/1.1 2")))
        return done

    with Watch(server) as watch, ThreadPoolExecutor(len(heads)) as pool:
        end = time.monotonic() + seconds
        results = [each for done in pool.map(put, heads) for each in done]
    return watch.sample(len(results), size, sum(not ok for _, ok in results), [taken for taken, _ in results])


def calls(server: Server, operations: Sequence[Callable[[], object]], size: int = 0) -> Sample:
    """Operations of a client library, one after another."""
    latencies = []
    with Watch(server) as watch:
        for operation in operations:
            started = time.monotonic()
            operation()
            latencies.append(time.monotonic() - started)
    return watch.sample(len(operations), size, 0, latencies)


@contextmanager
def beside(work: Callable[[Callable[[], bool]], object]):  # type: ignore[no-untyped-def]
    """Run ``work(stopped)`` in a thread until the end of the ``with``; it looks at ``stopped()`` often. Raises what
    it raised."""
    ended = False
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, lambda: ended)
        try:
            time.sleep(0.3)
            yield
        finally:
            ended = True
        running.result()


def random_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    with path.open("wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(os.urandom(min(size, 1 << 20)))
    return path
