"""Flips bytes of stored objects, and of their rows in the index, under a running server, and reads them.

``python -m reliability.flips --objects 50``: some small objects (in the index) and some large ones (in files). Each
flip changes one byte to another value: of a blob file (data, footer, trailer), or of a row of the index, written
through LMDB. Then the object is read over HTTP, and the byte is put back. The answer must be a 5xx, a broken
connection, or the object as it was put: never a complete answer with a wrong byte, a wrong ETag, or that it is not
there. A corrupt blob must be in quarantine afterwards.

With ``--flips N`` it is a seeded sample of N of all bytes; the seed is printed. ``--unverified`` runs the same against
a server that verifies nothing: it must find wrong answers, else this program is blind.

Exit status: 0 as it must be; 1 something wrong was served; 2 this program saw nothing go wrong at all.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from reliability.program import Program

PROJECT = Path(__file__).parent.parent
SECONDS = 60.0  #: far more than anything here takes
SMALL, LARGE = 64 * 1024, 64 * 1024 + 1  #: what is in the index at most, and in a file at least
BUCKET = "flips"

RIGHT, REFUSED, CUT, WRONG = "right", "refused", "cut", "wrong"


@dataclass
class Target:
    """One thing that can be flipped: ``size`` bytes of a row, or of a file.

    :ivar kind: what the report calls it. :ivar key: the object to read.
    """

    kind: str
    key: str
    size: int
    row: bytes = b""
    file: Path | None = None


@dataclass
class Stored:
    """An object as it was put."""

    body: bytes
    etag: str


@dataclass
class Result:
    """How often which verdict was given, by kind of target."""

    seed: int
    objects: int
    flips: int = 0
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    quarantined: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Server:
    """One ``twistd -n ais-s3`` with one worker on ``home/data``; ``start`` it and ``stop`` it."""

    def __init__(self, home: Path, unverified: bool) -> None:
        self.data = home / "data"
        self._log = home / "server.log"
        program = ["-m", "reliability.unverified"] if unverified else [str(Path(sys.executable).with_name("twistd"))]
        self._command = [sys.executable, *program, "-n", "--pidfile=", "ais-s3", "--data", str(self.data)]
        self._command += ["--listen", "tcp:0:interface=127.0.0.1", "--workers", "1", "--access-log", "off"]
        self._command += ["--no-sync", "--scrub-rate", "0", "--index-backups", "0"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """The port. Raises RuntimeError."""
        path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}, cwd=self.data.parent
            )
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self._log.read_text(errors="replace"))
            if found:
                return int(found[1])
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(SECONDS)
            self._process = None


class Reader:
    """Asks the server, over one connection as long as it lasts."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def put(self, key: str, body: bytes) -> str:
        """The ETag."""
        self._connection.request("PUT", f"/s3/{BUCKET}/{key}" if key else f"/s3/{BUCKET}", body)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"PUT {key}: {answer.status} {text!r}")
        return answer.headers.get("ETag", "")

    def verdict(self, key: str, want: Stored) -> tuple[str, str]:
        """What GET answers, and in words."""
        try:
            self._connection.request("GET", f"/s3/{BUCKET}/{key}")
            answer = self._connection.getresponse()
            body = answer.read()
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            return CUT, repr(error)
        if answer.status >= 500:
            return REFUSED, str(answer.status)
        if answer.status == 200 and body == want.body and answer.headers.get("ETag") == want.etag:
            return RIGHT, "200"
        return WRONG, f"{answer.status}, {len(body)} bytes, ETag {answer.headers.get('ETag')}"


class Flips:
    """The objects of one server, and what can be flipped of them."""

    def __init__(self, data: Path, reader: Reader) -> None:
        self._data = data
        self._reader = reader
        self._objects: dict[str, Stored] = {}
        # The index as docs/format.md describes it: LMDB 1.0, one table.
        self._index = lmdb.open(
            str(data / "index"), lib_version=1, map_size=1 << 40, max_readers=1024, sync=False, create=False
        )
        self.targets: list[Target] = []

    def close(self) -> None:
        self._index.close()

    def store(self, count: int, chance: random.Random) -> None:
        """Every other object is small."""
        self._reader.put("", b"")
        known = self._rows()
        files: set[Path] = set()
        for number in range(count):
            key = f"object-{number}"
            size = chance.randrange(1, 2000) if number % 2 == 0 else chance.randrange(LARGE, LARGE + 4000)
            body = chance.randbytes(size)
            self._objects[key] = Stored(body, self._reader.put(key, body))
            rows = self._rows()
            for row, length in rows.items():
                if row not in known:
                    self.targets.append(Target(f"row {_kind(row)}", key, length, row=row))
            known = rows
            for path in set(self._data.glob("blobs/?????/??/*")) - files:
                self.targets.append(Target("file", key, path.stat().st_size, file=path))
                files.add(path)
        # What all of them share: the bucket, its counters and its name.
        shared = [row for row in known if _kind(row) in ("A", "C", "b")]
        self.targets += [Target(f"row {_kind(row)}", "object-0", known[row], row=row) for row in shared]

    def _rows(self) -> dict[bytes, int]:
        with self._index.begin() as transaction:
            return {bytes(key): len(value) for key, value in transaction.cursor()}

    def flip(self, target: Target, position: int, mask: int, result: Result) -> None:
        """One byte, one GET, and the byte back."""
        flipped = (
            self._flipped_file(target, position, mask) if target.file else self._flipped_row(target, position, mask)
        )
        with flipped:
            verdict, words = self._reader.verdict(target.key, self._objects[target.key])
            if target.file and verdict in (REFUSED, CUT):
                result.quarantined += self._await_quarantine(target)
        result.flips += 1
        result.verdicts.setdefault(target.kind, Counter())[verdict] += 1
        if verdict == WRONG:
            result.wrong.append(f"{target.kind} of {target.key}, byte {position} ^ {mask}: {words}")

    @contextlib.contextmanager
    def _flipped_row(self, target: Target, position: int, mask: int) -> Iterator[None]:
        with self._index.begin(write=True) as transaction:
            good = bytes(transaction.get(target.row) or b"")
            bad = good[:position] + bytes([good[position] ^ mask]) + good[position + 1 :]
            transaction.put(target.row, bad)
        try:
            yield
        finally:
            with self._index.begin(write=True) as transaction:
                transaction.put(target.row, good)

    @contextlib.contextmanager
    def _flipped_file(self, target: Target, position: int, mask: int) -> Iterator[None]:
        assert target.file is not None
        descriptor = os.open(target.file, os.O_RDWR)
        try:
            good = os.pread(descriptor, 1, position)
            os.pwrite(descriptor, bytes([good[0] ^ mask]), position)
            try:
                yield
            finally:
                os.pwrite(descriptor, good, position)
                with contextlib.suppress(FileNotFoundError):
                    self._quarantined(target.file).rename(target.file)
        finally:
            os.close(descriptor)

    def _quarantined(self, path: Path) -> Path:
        return self._data / "blobs" / "quarantine" / path.name

    def _await_quarantine(self, target: Target) -> bool:
        assert target.file is not None
        deadline = time.monotonic() + SECONDS
        while target.file.exists():
            until = time.monotonic() + 0.2
            while target.file.exists() and time.monotonic() < until:
                time.sleep(0.0002)
            if target.file.exists():  # the one before was still being moved when this one was found
                self._reader.verdict(target.key, self._objects[target.key])
            if time.monotonic() > deadline:
                raise RuntimeError(f"{target.file} is corrupt and does not get into quarantine")
        return True


def _kind(row: bytes) -> str:
    """The letter of a row's key, behind its partition."""
    return chr(row[1 + row[0]])


def run(home: Path, objects: int, flips: int, seed: int, unverified: bool) -> Result:
    """Do it in an empty directory. ``flips`` 0: every byte."""
    chance = random.Random(seed)
    result = Result(seed, objects)
    server = Server(home, unverified)
    port = server.start()
    began = time.monotonic()
    try:
        work = Flips(server.data, Reader(port))
        try:
            work.store(objects, chance)
            places = [(target, at) for target in work.targets for at in range(target.size)]
            if flips:
                places = _sample(work.targets, places, flips, chance)
            for target, position in places:
                work.flip(target, position, chance.randrange(1, 256), result)
        finally:
            work.close()
    finally:
        server.stop()
    result.seconds = time.monotonic() - began
    return result


def _sample(
    targets: list[Target], places: list[tuple[Target, int]], flips: int, chance: random.Random
) -> list[tuple[Target, int]]:
    """So many of all bytes: half of rows and of the ends of files, where each byte has a meaning, half of any."""
    ends = [
        (target, at) for target in targets for at in range(max(0, target.size - 400) if target.file else 0, target.size)
    ]
    half = min(flips // 2, len(ends))
    return chance.sample(ends, half) + chance.sample(places, min(flips - half, len(places)))


def main() -> int:
    parser = Program("reliability.flips", __doc__.split("\n\n")[0])
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--flips", type=int, default=200_000, help="how many; 0: every byte of all")
    parser.add_argument("--unverified", action="store_true", help="negative control: this must find wrong answers")
    with parser.running() as (options, home):
        result = run(home, options.objects, options.flips, options.seed, options.unverified)
    noticed = sum(counted[REFUSED] + counted[CUT] for counted in result.verdicts.values())
    measured = {
        "objects": result.objects,
        "flips": result.flips,
        "wrong": len(result.wrong),
        "noticed": noticed,
        "quarantined": result.quarantined,
        "verdicts": result.verdicts,
    }
    parser.report((result.wrong, measured))
    return 0 if noticed else 2


if __name__ == "__main__":
    sys.exit(main())
