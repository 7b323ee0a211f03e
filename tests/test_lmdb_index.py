"""What only the index on LMDB promises: durability, and what becomes of commits when the writer or the disk fails."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
import pytest_twisted
from indexkit import BUCKET, FailingEnvironment, lmdb_error
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from aisobj.errors import CommitUnknown, FormatError, StorageError, StoreFull, StoreReadOnly
from aisobj.storage import index_writer, index_writer_start, records
from aisobj.storage.index_protocol import (
    MAX_FRAME,
)
from aisobj.storage.index_writer import IndexWriter
from aisobj.storage.interfaces import ABSENT, CommitResult
from aisobj.storage.lmdb_env import open_environment, row_prefix
from aisobj.storage.lmdb_index import LmdbIndex, LmdbSnapshot

OK = CommitResult.OK

Opener = Callable[..., LmdbIndex]


@pytest_twisted.async_yield_fixture()
async def opener(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the index in tmp_path/index; closes what a test left open."""
    opened: list[LmdbIndex] = []

    def open_it(**options: Any) -> LmdbIndex:
        index = LmdbIndex.open(tmp_path / "index", reactor=reactor, **{"sync": False, "writer": "thread", **options})
        opened.append(index)
        return index

    yield open_it
    for index in opened:
        await index.close()


def outcomes(results: list[tuple[bool, Any]]) -> list[Any]:
    """Of a DeferredList: the results, and the types of the errors."""
    return [value if success else value.type for success, value in results]


def settled(deferreds: list[Deferred[CommitResult]]) -> Deferred[Any]:
    return DeferredList(deferreds, consumeErrors=True)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01, lambda: None)
    pytest.fail("it did not happen within 10 s")


async def resumed(index: LmdbIndex) -> None:
    """A commit has succeeded. The first may still go to a writer that was killed after its last answer."""
    for _ in range(3):
        (outcome,) = outcomes(await settled([index.commit(BUCKET, {}, {b"again": b""})]))
        if outcome is OK:
            return
        assert outcome is CommitUnknown
    pytest.fail("the writer did not come back")


def writer_pids(path: Path) -> list[int]:
    """The processes that write this index, ours and nobody else's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"aisobj.storage.index_writer" in arguments and os.fsencode(path / "index") in arguments:
                found.append(int(entry.name))
    return found


# --- on disk


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("writer", ["thread", "process"])
async def test_what_was_committed_is_there_after_reopening(opener: Opener, writer: str) -> None:
    index = opener(sync=True, writer=writer)
    rows = {b"k%03d" % n: records.seal(os.urandom(n)) for n in range(200)}
    await gatherResults([index.commit(BUCKET, {key: ABSENT}, {key: value}) for key, value in rows.items()])
    await index.close()
    again = opener(sync=True, writer=writer)
    assert dict(again.scan(BUCKET, b"", b"", 1000)) == rows
    assert await again.commit(BUCKET, {b"k000": rows[b"k000"]}, {b"k000": b"new"}) is OK


@pytest_twisted.ensureDeferred
async def test_files_are_the_owners_alone_and_of_lmdb_1(opener: Opener, tmp_path: Path) -> None:
    opener()
    assert stat.S_IMODE((tmp_path / "index").stat().st_mode) == 0o700
    for name in ("data.mdb", "lock.mdb"):
        assert stat.S_IMODE((tmp_path / "index" / name).stat().st_mode) == 0o600
    # The longest key of this LMDB is what MAX_KEY counts on; the contract suite writes one.
    environment = lmdb.open(str(tmp_path / "other"), lib_version=1)
    assert environment.max_key_size() == 1978
    environment.close()


def test_files_of_another_format_are_refused(tmp_path: Path) -> None:
    old = lmdb.open(str(tmp_path / "index"), lib_version=0)
    with old.begin(write=True) as transaction:
        transaction.put(b"a", b"1")
    old.close()
    with pytest.raises(FormatError):
        open_environment(tmp_path / "index", sync=True)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "data.mdb").write_bytes(os.urandom(8192))
    with pytest.raises(FormatError):
        open_environment(tmp_path / "junk", sync=True)


def test_a_directory_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        open_environment(tmp_path / "missing" / "index", sync=True)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        open_environment(tmp_path / "file", sync=True)


READER = """
import sys
from pathlib import Path
from aisobj.storage.lmdb_env import open_environment, row_prefix
environment = open_environment(Path(sys.argv[1]), sync=False)
for line in sys.stdin:
    with environment.begin() as transaction:
        print(transaction.get(row_prefix(bytes(range(16))) + line.strip().encode()), flush=True)
"""


@pytest_twisted.ensureDeferred
async def test_another_process_sees_a_commit_as_soon_as_it_is_answered(opener: Opener, tmp_path: Path) -> None:
    index = opener()
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "index")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None and other.stdout is not None

        def ask(key: str) -> str:
            print(key, file=other.stdin, flush=True)
            return other.stdout.readline().strip()  # type: ignore[union-attr]

        assert ask("a") == "None"
        for number in range(20):
            assert await index.commit(BUCKET, {}, {b"a": b"%d" % number}) is OK
            assert ask("a") == repr(b"%d" % number)
        other.stdin.close()


# --- the writer process


@pytest_twisted.ensureDeferred
async def test_after_kill_9_of_the_writer_answered_commits_are_there_and_service_resumes(
    opener: Opener, tmp_path: Path
) -> None:
    index = opener(writer="process", sync=True)
    answered: set[bytes] = set()
    unknown: set[bytes] = set()
    for cycle in range(3):
        await resumed(index)
        (pid,) = writer_pids(tmp_path)
        if cycle == 0:
            os.kill(pid, signal.SIGSTOP)  # it will have seen none of them
        names = [b"%d-%03d" % (cycle, number) for number in range(300)]
        tries = [index.commit(BUCKET, {}, {name: os.urandom(2000)}) for name in names]
        await deferLater(reactor, 0.002 * cycle, lambda: None)
        os.kill(pid, signal.SIGKILL)
        for name, outcome in zip(names, outcomes(await settled(tries)), strict=True):
            assert outcome in (OK, CommitUnknown)
            (answered if outcome is OK else unknown).add(name)
    assert unknown
    await resumed(index)
    assert index.read_only == ""
    found = {key for key, _ in index.scan(BUCKET, b"", b"", 10_000)} - {b"again"}
    assert answered <= found <= answered | unknown
    await index.close()
    environment = open_environment(tmp_path / "index", sync=False)
    with environment.begin() as transaction:
        assert all(transaction.get(row_prefix(BUCKET) + name) is not None for name in answered)
    environment.close()


@pytest_twisted.ensureDeferred
async def test_a_writer_that_cannot_start_is_tried_again_later_and_later(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []
    real_start = index_writer_start.ThreadWriter.start

    def failing_start(self: index_writer_start.ThreadWriter) -> socket.socket:
        starts.append(1)
        if len(starts) == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        if len(starts) <= 3:
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours
        return real_start(self)

    monkeypatch.setattr(index_writer_start.ThreadWriter, "start", failing_start)
    index = opener()
    tried: Any = None
    while tried is not OK:
        (tried,) = outcomes(await settled([index.commit(BUCKET, {}, {b"a": b"1"})]))
        assert tried in (OK, CommitUnknown)
    assert len(starts) == 4
    assert index.get(BUCKET, [b"a"]) == [b"1"]


@pytest_twisted.ensureDeferred
async def test_close_does_not_wait_for_a_writer_that_is_not_there(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_start(self: index_writer_start.ThreadWriter) -> socket.socket:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(index_writer_start.ThreadWriter, "start", no_start)
    await opener().close()


@pytest_twisted.ensureDeferred
async def test_close_ends_even_if_the_writer_dies_meanwhile(opener: Opener, tmp_path: Path) -> None:
    index = opener(writer="process")
    await index.commit(BUCKET, {}, {b"a": b"1"})
    (pid,) = writer_pids(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    queued = index.commit(BUCKET, {}, {b"a": b"2"})
    closed = index.close()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CommitUnknown):
        await queued
    await closed
    await until(lambda: not writer_pids(tmp_path))  # the one that settled it has ended too


@pytest_twisted.ensureDeferred
async def test_the_writer_ignores_sigterm_and_sigint_and_ends_with_close(opener: Opener, tmp_path: Path) -> None:
    index = opener(writer="process")
    await index.commit(BUCKET, {}, {b"a": b"1"})
    (pid,) = writer_pids(tmp_path)
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert await index.commit(BUCKET, {b"a": b"1"}, {b"a": b"2"}) is OK
    assert writer_pids(tmp_path) == [pid]
    await index.close()
    await until(lambda: not writer_pids(tmp_path))


@pytest_twisted.ensureDeferred
async def test_the_writer_process_stays_small_and_imports_no_twisted(opener: Opener, tmp_path: Path) -> None:
    index = opener(writer="process")
    await gatherResults([index.commit(BUCKET, {}, {b"%d" % n: bytes(4096)}) for n in range(500)])
    (pid,) = writer_pids(tmp_path)
    status = Path(f"/proc/{pid}/status").read_text()
    memory = sum(int(kb) for kb in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status))
    assert memory < 20_000
    loaded = "import sys, aisobj.storage.index_writer; print('twisted' in sys.modules, 'zope.interface' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"


# --- the disk


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[FailingEnvironment]:
    """The environments that writer threads get from now on."""
    made: list[FailingEnvironment] = []

    class Writer(IndexWriter):
        def __init__(self, environment: lmdb.Environment, clients: Any, *more: Any) -> None:
            made.append(FailingEnvironment(environment))
            super().__init__(made[-1], clients, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(index_writer, "IndexWriter", Writer)
    return made


@pytest_twisted.ensureDeferred
async def test_after_a_failed_sync_nothing_more_is_written(opener: Opener, failing: list[FailingEnvironment]) -> None:
    index = opener()
    assert await index.commit(BUCKET, {}, {b"a": b"1"}) is OK
    failing[0].error = lmdb_error(errno.EIO)
    tries = [index.commit(BUCKET, {}, {b"%d" % n: b"lost"}) for n in range(10)]
    assert outcomes(await settled(tries)) == [StoreReadOnly] * 10
    assert "Input/output error" in index.read_only
    failing[0].error = None  # even if the disk would work again
    with pytest.raises(StoreReadOnly):
        await index.commit(BUCKET, {}, {b"a": b"2"})
    assert failing[0].commits == 1, "a sync that failed is never tried again"
    assert index.scan(BUCKET, b"", b"", 9) == [(b"a", b"1")], "reads go on"


@pytest_twisted.ensureDeferred
async def test_a_full_map_refuses_puts_and_still_deletes(opener: Opener) -> None:
    index = opener(map_size=1 << 20)
    stored: list[bytes] = []
    full = False
    for start in range(0, 400, 10):
        names = [b"%04d" % number for number in range(start, start + 10)]
        results = outcomes(await settled([index.commit(BUCKET, {}, {name: bytes(4000)}) for name in names]))
        assert set(results) <= {OK, StoreFull}
        stored += [name for name, result in zip(names, results, strict=True) if result is OK]
        full = full or StoreFull in results
    assert full
    assert len(stored) > 50
    assert index.read_only == ""
    assert [key for key, _ in index.scan(BUCKET, b"", b"", 1000)] == stored
    for name in stored[:40]:
        assert await index.commit(BUCKET, {}, {}, [name]) is OK
    assert await index.commit(BUCKET, {}, {b"after": bytes(4000)}) is OK


@pytest_twisted.ensureDeferred
async def test_a_commit_that_does_not_fit_fails_alone(opener: Opener) -> None:
    index = opener(map_size=1 << 20)
    tries = [index.commit(BUCKET, {}, {name: bytes(size)}) for name, size in [(b"a", 10), (b"b", 2 << 20), (b"c", 10)]]
    assert outcomes(await settled(tries)) == [OK, StoreFull, OK]
    assert [key for key, _ in index.scan(BUCKET, b"", b"", 9)] == [b"a", b"c"]


@pytest_twisted.ensureDeferred
async def test_a_disk_with_a_few_pages_left_refuses_puts_and_still_deletes(opener: Opener, tmp_path: Path) -> None:
    """The kernel itself cuts the writes short, as on a full disk. Sixteen pages do for any number of deletes."""
    index = opener(writer="process", sync=True)
    names = [b"%03d" % number for number in range(150)]
    await gatherResults([index.commit(BUCKET, {}, {name: bytes(4000)}) for name in names])
    (pid,) = writer_pids(tmp_path)
    size = (tmp_path / "index" / "data.mdb").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 65536, size + 65536))
    results = outcomes(await settled([index.commit(BUCKET, {}, {b"n%d" % n: bytes(100_000)}) for n in range(4)]))
    assert results == [StoreFull] * 4
    assert index.read_only == ""
    assert index.scan(BUCKET, b"", b"n", 9) == []
    for name in names:
        assert await index.commit(BUCKET, {name: bytes(4000)}, {}, [name]) is OK
    assert index.scan(BUCKET, b"", b"", 9) == []


@pytest_twisted.ensureDeferred
async def test_a_commit_over_the_limit_is_refused_and_the_next_one_works(opener: Opener) -> None:
    index = opener()
    with pytest.raises(ValueError):
        index.commit(BUCKET, {}, {b"a": bytes(MAX_FRAME)})
    assert await index.commit(BUCKET, {}, {b"a": b"1"}) is OK


class Busy:
    """An environment in which somebody commits right after each of so many transactions has begun."""

    def __init__(self, environment: lmdb.Environment, times: int) -> None:
        self._environment = environment
        self._left = times

    def begin(self) -> Any:
        begun = self._environment.begin()
        if self._left:
            self._left -= 1
            with self._environment.begin(write=True) as transaction:
                transaction.put(row_prefix(b"p") + b"key", b"%d" % self._left)
        return begun


@pytest.mark.parametrize("times", [0, 1, 2, 3, 50])
def test_no_commit_comes_between_the_two_steps_in_which_lmdb_begins_to_read(tmp_path: Path, times: int) -> None:
    environment = open_environment(tmp_path, sync=False)
    with environment.begin(write=True) as transaction:
        transaction.put(row_prefix(b"p") + b"key", b"0")
    busy: Any = Busy(environment, times)
    snapshot = LmdbSnapshot(busy, b"p")
    assert snapshot.get(b"key") == b"0"  # what the last one has written
    snapshot.close()
    environment.close()
