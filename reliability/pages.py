"""Damages pages of the index, and reads everything.

``python -m reliability.pages --damages 500``: each time one page of ``data.mdb`` is overwritten, all of it or a few
bytes, with random bytes, before the server starts or while it runs. Then every object is read, the bucket listed, and
one object put. LMDB has no checksums of its pages: it may find nothing, fail, or end the process (SIGSEGV, SIGBUS, an
assertion). What counts is what a client gets: the object as it was put, an error, or no answer; never a complete answer
with a wrong byte or a wrong ETag. What an object's path leads to may be gone with the page that led there: answers "not
found" are counted by themselves.

In the end ``ais-s3 restore`` makes the backup the index again, and everything must be right.

``--unverified`` runs a server that verifies nothing: it must be found out.

Exit status: 0 as it must be; 1 something wrong was served, or the restore did not heal.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from reliability import sabotage
from reliability.program import Program, Verdict
from reliability.server import BUCKET, Forker, Hang, Server, environment, serving

PAGE = 4096
RIGHT, NOT_FOUND, REFUSED, CUT, WRONG = "right", "not found", "refused", "no answer", "wrong"
#: Seconds that a server with a damaged index may take for an answer: it may be looking for its writer.
_PATIENCE = 5.0
#: Sizes of bodies: in a row, in a row of several pages, in a file.
_SIZES = (700, 30_000, 100_000)


def body_of(key: str) -> bytes:
    """It says which object it is, in each of its blocks."""
    number = int(key.removeprefix("key"))
    size = _SIZES[0] if number % 10 else _SIZES[1 + number // 10 % 2]
    return (hashlib.sha256(key.encode()).digest() * (size // 32 + 1))[:size]


class Pages:
    """One data directory, damaged again and again.

    :param objects: how many; one in ten is larger.
    """

    def __init__(self, forker: Forker, home: Path, chance: random.Random, objects: int, *options: str) -> None:
        self.verdicts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._server = Server(forker, home / "server", *options, "--scrub-rate", "0", sync=False)
        self._file = self._server.data / "index" / "data.mdb"
        self._kept = home / "data.mdb"
        self._backup = home / "backup.mdb"
        self._chance = chance
        self._connection: http.client.HTTPConnection | None = None
        self._etags = {f"key{number:04}": "" for number in range(objects)}

    def store(self) -> None:
        """Put the objects, copy the index and back it up."""
        with serving(self._server.start()):
            self._server.make_bucket()
            for key in self._etags:
                status, _, self._etags[key] = self._ask("PUT", f"/s3/{BUCKET}/{key}", body_of(key))
                assert status == 200, key
            self._tool("backup", str(self._backup))
            self._server.stop()
        shutil.copyfile(self._backup, self._kept)  # which has no free pages

    def damage(self) -> None:
        """One page, and what comes of it."""
        shutil.copyfile(self._kept, self._file)
        running = self._chance.random() < 0.5
        with serving(self._server):
            if running:
                self._server.start()
            what = self._spoil() + (" of a running server" if running else "")
            try:
                if not running:
                    self._server.start()
            except Hang:
                self.verdicts["no start"] += 1
                return
            for key in self._etags:
                self._judge(what, key)
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._ask("GET", f"/s3/{BUCKET}?list-type=2")
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._ask("PUT", f"/s3/{BUCKET}/another", b"x")
            if self._server.alive():
                self._judge(what, self._chance.choice(sorted(self._etags)))

    def _spoil(self) -> str:
        size = self._file.stat().st_size
        page = self._chance.randrange(size // PAGE)
        count = self._chance.choice((1, 4, 64, PAGE))
        start = page * PAGE + (0 if count == PAGE else self._chance.randrange(PAGE - count))
        with self._file.open("r+b") as file:
            file.seek(start)
            file.write(self._chance.randbytes(count))
        return f"{count} bytes at {start} of {size}"

    def _judge(self, what: str, key: str) -> None:
        if not self._server.alive():
            self.verdicts["died"] += 1
            return
        try:
            status, body, etag = self._ask("GET", f"/s3/{BUCKET}/{key}")
        except (OSError, http.client.HTTPException):
            self.verdicts[CUT] += 1
            return
        if status == 200:
            verdict = RIGHT if (body, etag) == (body_of(key), self._etags[key]) else WRONG
        else:
            verdict = NOT_FOUND if status == 404 else REFUSED if status >= 500 else WRONG
        self.verdicts[verdict] += 1
        if verdict == WRONG:
            self.faults.append(f"{what}: {key} is answered with {status}, {len(body)} bytes")

    def heal(self) -> None:
        """Restore the backup over a damaged index."""
        shutil.copyfile(self._kept, self._file)
        with self._file.open("r+b") as file:
            file.write(self._chance.randbytes(self._file.stat().st_size))
        self._tool("restore", str(self._backup), "--force")
        with serving(self._server.start()):
            for key, etag in self._etags.items():
                if self._ask("GET", f"/s3/{BUCKET}/{key}") != (200, body_of(key), etag):
                    self.faults.append(f"{key} is not as it was after the restore")
            self._server.stop()

    def _tool(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "aisobj.tools", "--data", str(self._server.data), *arguments]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            self.faults.append(f"ais-s3 {arguments[0]}: {done.stdout}{done.stderr}")

    def _ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes, str]:
        if self._connection is None or self._connection.port != self._server.port:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=_PATIENCE)
        try:
            self._connection.request(method, target, body)
            response = self._connection.getresponse()
            return response.status, response.read(), response.headers["ETag"] or ""
        except BaseException:
            self._connection.close()
            self._connection = None
            raise


def run(forker: Forker, home: Path, seed: int, damages: int, *options: str, objects: int = 60) -> Verdict:
    """``options``: of the server."""
    pages = Pages(forker, home, random.Random(seed), objects, *options)
    pages.store()
    began = time.monotonic()
    for _ in range(damages):
        pages.damage()
    pages.heal()
    seconds = round(time.monotonic() - began, 1)
    return pages.faults, {"damages": damages, "answers": dict(sorted(pages.verdicts.items())), "seconds": seconds}


def main() -> None:
    program = Program("reliability.pages", __doc__)
    program.add_argument("--damages", type=int, default=500)
    program.add_argument(
        "--unverified", action="store_true", help="of a server that verifies nothing: must be found out"
    )
    with program.running() as (options, home), Forker() as forker:
        more = [sabotage.VERIFY_NOTHING] if options.unverified else []
        program.report(run(forker, home, options.seed, options.damages, *more))


if __name__ == "__main__":
    main()
