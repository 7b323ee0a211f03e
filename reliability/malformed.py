"""Malformed requests over raw sockets, at an open server and at one with credentials.

Each is answered or cut within a second; nothing is a 5xx (but 501) or leaves a traceback, memory and descriptors
stay what they are. A request that takes longer is sent again: a machine that is busy with other things is no hang.

A request is the same for the same ``--seed`` and number; ``--only NUMBER`` sends one again and shows it. After each the
client closes its sending half: so there is nothing that the server could wait for.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from xml.etree import ElementTree

from reliability.handmade import Parts, User, assemble
from reliability.mangling import mangled
from reliability.program import Program, Verdict
from reliability.server import Forker, Server, check_data, serving

THREADS = 4
HANG_SECONDS = 20.0  #: no right request takes so long
AGAIN = 3  #: times that a request which took too long is sent again
PATIENCE = 3  #: after so many times what is too long nobody waits any longer
RESTOCK = 500  #: requests after which what they look for is put back
#: What a server may have grown by, bytes: a leak of 1 KiB a request is 100 MB in the long run.
GROWTH = 16 << 20
USER = User("AKIAMALFORMED", "a/secret+of=ours")

_BAD_LOG = ("Traceback", "Unhandled", "#critical]")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Target:
    """A server, and what the requests need to find there."""

    def __init__(self, server: Server, user: User | None) -> None:
        self.server = server
        self.user = user
        self.upload = b"0" * 32

    @property
    def host(self) -> bytes:
        return b"127.0.0.1:%d" % self.server.port

    def ask(self, parts: Parts) -> bytes:
        """The answer to a right request."""
        answer, _ = exchange(self.server.port, [assemble(parts, self.user, self.host)])
        return answer

    def restock(self) -> None:
        """What the requests are about may be gone, and what they began must not pile up."""
        self.ask(Parts(b"PUT", b"/s3/bucket"))
        for size in (20, 100_000):
            self.ask(Parts(b"PUT", b"/s3/bucket/kept", body=b"k" * size))
        for upload in re.findall(rb"<UploadId>(\w+)</UploadId>", self.ask(Parts(b"GET", b"/s3/bucket", b"uploads"))):
            self.ask(Parts(b"DELETE", b"/s3/bucket/up", b"uploadId=" + upload))
        begun = re.search(rb"<UploadId>(\w+)<", self.ask(Parts(b"POST", b"/s3/bucket/up", b"uploads")))
        assert begun, "no upload can be begun any more"
        self.upload = begun[1]
        self.ask(Parts(b"PUT", b"/s3/bucket/up", b"partNumber=1&uploadId=" + self.upload, body=b"x"))

    def footprint(self) -> tuple[int, int]:
        """Bytes of memory of its own and file descriptors, of all its processes."""
        memory = descriptors = 0
        for pid in self.server.pids():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                memory += sum(1024 * int(kib) for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.M))
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return memory, descriptors


def exchange(port: int, pieces: Sequence[bytes], patience: float = HANG_SECONDS) -> tuple[bytes, float]:
    """All that is answered, and how long after the last piece the connection was closed.

    :raises TimeoutError: it was not.
    """
    with socket.create_connection(("127.0.0.1", port), patience) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = []
        with contextlib.suppress(ConnectionError):  # it may be cut while we send
            for piece in pieces:
                connection.sendall(piece)
            began = time.monotonic()
            connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                received.append(data)
        return b"".join(received), time.monotonic() - began


def judge(answer: bytes, only_head: bool) -> Iterator[tuple[int, str]]:
    """Each answer's status, and what is wrong with it ("" if nothing is)."""
    while answer:
        status = _STATUS.match(answer)
        head, end, rest = answer.partition(b"\r\n\r\n")
        if not status or not end:
            yield 0, f"this is no answer: {answer[:200]!r}"
            return
        code = int(status[1])
        found = _LENGTH.search(head + b"\r\n")
        length = int(found[1]) if found else 0
        if only_head and (not rest or rest.startswith(b"HTTP/1.1 ")):
            length = 0
        body, answer = rest[:length], rest[length:]
        yield code, _fault(code, head, body, length)


def _fault(code: int, head: bytes, body: bytes, length: int) -> str:
    if code >= 500 and code != 501:
        return f"{code}: {body!r}"
    if len(body) < length:
        return f"{code} of {length} bytes was cut after {len(body)}"
    if code >= 400 and body and b"\r\nContent-Type: application/xml\r\n" in head:
        try:
            ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            return f"{code} is no document ({error}): {body!r}"
    return ""


class Shooter:
    """Sends the requests of one seed, until there are ``enough`` faults.

    :ivar faults: what was wrong. :ivar slowest: seconds, and the number of that request.
    :ivar slow: requests that took too long. One that is the cause does so again when it is sent again; others had to
        wait for it, or for a busy machine.
    """

    def __init__(self, targets: Sequence[Target], seed: int, hang: float, enough: float = math.inf) -> None:
        self._targets = targets
        self._enough = enough
        self._seed = seed
        self._hang = hang
        self._lock = threading.Lock()
        self.faults: list[str] = []
        self.slow = 0
        self.statuses: Counter[int] = Counter()
        self.slowest = (0.0, -1)

    def request(self, number: int) -> tuple[Target, bytes, bool, Random]:
        random = Random(f"{self._seed} {number}")
        target = self._targets[random.randrange(len(self._targets))]
        data, only_head = mangled(random, target.user, target.host, target.upload)
        return target, data, only_head, random

    def shoot(self, number: int) -> None:
        if len(self.faults) >= self._enough:
            return
        target, data, only_head, random = self.request(number)
        pieces = [data]
        if random.random() < 0.2:  # in two reads
            at = random.randrange(len(data) + 1)
            pieces = [data[:at], data[at:]]
        try:
            answer, seconds = self._exchange(target, pieces)
            if seconds > self._hang:
                with self._lock:
                    self.slow += 1
                for _ in range(AGAIN):
                    answer, again = self._exchange(target, pieces)
                    if again <= self._hang:
                        break
                else:
                    self._fault(number, data, f"it took {seconds:.3f} s, and when sent again {again:.3f} s")
        except ConnectionRefusedError as error:
            self._fault(number, data, repr(error))
            return
        for status, fault in judge(answer, only_head):
            with self._lock:
                self.statuses[status] += 1
            if fault:
                self._fault(number, data, fault)
        with self._lock:
            self.slowest = max(self.slowest, (seconds, number))

    def _exchange(self, target: Target, pieces: Sequence[bytes]) -> tuple[bytes, float]:
        try:
            return exchange(target.server.port, pieces, PATIENCE * self._hang)
        except TimeoutError:
            return b"", math.inf

    def _fault(self, number: int, data: bytes, what: str) -> None:
        with self._lock:
            self.faults.append(f"request {number}: {what}\n    {data[:600]!r}")

    def shoot_all(self, numbers: range) -> None:
        for target in self._targets:
            target.restock()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self.shoot, numbers))


def make_targets(forker: Forker, home: Path, *options: str) -> list[Target]:
    """An open server, and one with credentials; neither runs yet."""
    credentials = home / "credentials"
    credentials.write_text(f"[user]\naws_access_key_id = {USER.access_key}\naws_secret_access_key = {USER.secret}\n")
    credentials.chmod(0o600)
    server = Server(forker, home / "open", *options, sync=False)
    signed = Server(forker, home / "signed", "--credentials", str(credentials), *options, sync=False)
    return [Target(server, None), Target(signed, USER)]


def run(
    forker: Forker, home: Path, *options: str, requests: int, seed: int, hang: float = 1.0, enough: float = math.inf
) -> Verdict:
    """:param options: of both servers. :param hang: seconds that are too many. :param enough: faults to stop at."""
    targets = make_targets(forker, home, *options)
    server, signed = (target.server for target in targets)
    shooter = Shooter(targets, seed, hang, enough)
    with serving(server), serving(signed):
        server.start()
        signed.start()
        began, footprints, sent = time.monotonic(), [(0, 0)], 0
        while sent < requests and len(shooter.faults) < enough:
            some = range(sent, min(sent + RESTOCK, requests))
            shooter.shoot_all(some)
            sent = some.stop
            if sent <= max(requests // 5, RESTOCK):  # all that is kept for good has been made by then
                footprints = [target.footprint() for target in targets]
        seconds = time.monotonic() - began
        faults = shooter.faults
        after = [target.footprint() for target in targets]
        faults += _grown(footprints, after)
        if not faults:
            server.stop()
            signed.stop()
    for target in targets:
        faults += [f"{mark!r} in the log of {target.server.home}" for mark in _BAD_LOG if mark in target.server.log()]
        if not shooter.faults:
            faults += check_data(target.server.data)
    return faults, {
        "requests": sent,
        "answers": dict(sorted(shooter.statuses.items())),
        "slowest, ms": round(shooter.slowest[0] * 1000, 1),
        "slowest": shooter.slowest[1],
        "slow once": shooter.slow,
        "grown, MB": [round((now[0] - then[0]) / 1e6, 1) for then, now in zip(footprints, after, strict=True)],
        "descriptors": [now[1] - then[1] for then, now in zip(footprints, after, strict=True)],
        "seconds": round(seconds, 1),
    }


def _grown(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> Iterator[str]:
    for name, then, now in zip(("open", "signed"), before, after, strict=True):
        if now[0] - then[0] > GROWTH:
            yield f"the {name} server has grown from {then[0]} bytes to {now[0]}"
        if now[1] - then[1] > THREADS:
            yield f"the {name} server has {now[1]} descriptors open, not {then[1]}"


def main() -> None:
    program = Program("reliability.malformed", __doc__)
    program.add_argument("--requests", type=int, default=100_000)
    program.add_argument("--hang", type=float, default=1.0, help="seconds that are too many for one request")
    program.add_argument("--only", type=int, help="send this one and show what it is")
    with program.running() as (options, home), Forker() as forker:
        if options.only is not None:
            show(forker, home, options.seed, options.only)
            return
        program.report(run(forker, home, requests=options.requests, seed=options.seed, hang=options.hang))


def show(forker: Forker, home: Path, seed: int, number: int) -> None:
    """One request and its answer."""
    targets = make_targets(forker, home)
    with serving(targets[0].server), serving(targets[1].server):
        for target in targets:
            target.server.start()
            target.restock()
        target, data, _, _ = Shooter(targets, seed, 1.0).request(number)
        print(data)
        print(*exchange(target.server.port, [data]), sep="\n")


if __name__ == "__main__":
    main()
