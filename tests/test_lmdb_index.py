"""What only the index on LMDB promises: durability, and what becomes of commits when the writer or the disk fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater

from aisobj.errors import CommitUnknown, FormatError, StorageError, StoreFull, StoreReadOnly
from aisobj.storage import index_client, records
from aisobj.storage.index_protocol import (
    LENGTH,
    MAX_FRAME,
    Answer,
    Commit,
    FrameReader,
    Outcome,
    decode_answers,
    decode_commit,
    encode_frame,
)
from aisobj.storage.index_writer import IndexWriter
from aisobj.storage.interfaces import ABSENT, CommitResult
from aisobj.storage.lmdb_env import open_environment, row_prefix
from aisobj.storage.lmdb_index import LmdbIndex

BUCKET = bytes(range(16))
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
    real_start = index_client.ThreadWriter.start

    def failing_start(self: index_client.ThreadWriter) -> socket.socket:
        starts.append(1)
        if len(starts) == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        if len(starts) <= 3:
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours
        return real_start(self)

    monkeypatch.setattr(index_client.ThreadWriter, "start", failing_start)
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
    def no_start(self: index_client.ThreadWriter) -> socket.socket:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(index_client.ThreadWriter, "start", no_start)
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
    assert writer_pids(tmp_path) == [], "and none was started again"


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


def lmdb_error(code: int) -> lmdb.Error:
    """As py-lmdb raises it (only its C code sets the attribute)."""
    error = lmdb.Error(f"mdb_txn_commit: {os.strerror(code)}")
    error.code = code  # type: ignore[misc]
    return error


class FailingTransaction:
    def __init__(self, transaction: Any, error: Exception) -> None:
        self._transaction = transaction
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    def commit(self) -> None:
        self._transaction.abort()
        raise self._error


class FailingEnvironment:
    """An environment whose commits fail, once told to."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self.error: Exception | None = None
        self.begin_error: Exception | None = None
        self.commits = 0

    def begin(self, write: bool) -> Any:
        if self.begin_error is not None:
            raise self.begin_error
        transaction = self._environment.begin(write=write)
        if self.error is None:
            return transaction
        self.commits += 1
        return FailingTransaction(transaction, self.error)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[FailingEnvironment]:
    """The environments that writer threads get from now on."""
    made: list[FailingEnvironment] = []

    class Writer(IndexWriter):
        def __init__(self, environment: lmdb.Environment, clients: Any) -> None:
            made.append(FailingEnvironment(environment))
            super().__init__(made[-1], clients)  # type: ignore[arg-type]

    monkeypatch.setattr(index_client, "IndexWriter", Writer)
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
async def test_a_writer_that_is_read_only_says_so_to_every_client(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "index", sync=False)
    faulty = FailingEnvironment(environment)
    writer = IndexWriter(faulty, [])  # type: ignore[arg-type]
    faulty.begin_error = lmdb.PanicError("mdb_txn_begin: MDB_PANIC")
    assert [answer.outcome for answer in writer.process([put(1, b"a")])] == [Outcome.READ_ONLY]
    faulty.begin_error = None
    assert [answer.outcome for answer in writer.process([put(2, b"a")])] == [Outcome.READ_ONLY]
    writer.close()
    environment.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, -30772])
def test_no_room_at_commit_is_full_and_not_read_only(tmp_path: Path, code: int) -> None:
    environment = open_environment(tmp_path / "index", sync=False)
    faulty = FailingEnvironment(environment)
    writer = IndexWriter(faulty, [])  # type: ignore[arg-type]
    faulty.error = lmdb_error(code)
    assert [answer.outcome for answer in writer.process([put(1, b"a"), put(2, b"b")])] == [Outcome.FULL] * 2
    faulty.error = None
    assert [answer.outcome for answer in writer.process([put(3, b"a")])] == [Outcome.OK]
    writer.close()
    environment.close()


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


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@needs_strace
def test_a_commit_is_synced_before_it_is_answered(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    trace = tmp_path / "trace"
    arguments = writer_arguments(tmp_path, theirs)
    strace = ["strace", "-y", "-o", str(trace), "-e", "trace=openat,pwrite64,pwritev,writev,fdatasync,fsync,sendto"]
    with subprocess.Popen([*strace, *arguments], pass_fds=[theirs.fileno()]) as process, ours:
        theirs.close()
        ours.sendall(encode_frame(put(7, b"a")))
        (answer,) = read_answers(ours, 1)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(20) == 0
    assert answer == Answer(7, Outcome.OK)
    calls = trace.read_text()
    synced = re.search(r'data\.mdb", O_WRONLY\|O_DSYNC\|O_CLOEXEC\) = (\d+)', calls)
    assert synced, "the meta page has a descriptor that syncs"
    lines = calls.splitlines()
    sent = next(number for number, line in enumerate(lines) if line.startswith("sendto("))
    *_, pages, sync, meta = [re.sub(r"<.*", "", line) for line in lines[:sent]]
    assert pages.split("(")[0] in ("pwrite64", "pwritev", "writev")
    assert sync.startswith("fdatasync(")
    assert meta == f"pwrite64({synced[1]}"
    assert all(re.search(r"= \d+$", line) for line in lines[sent - 3 : sent]), "and all three succeeded"


@needs_strace
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        # The first is the writer's at its start, the second that of the first commit.
        ("fdatasync:error=EIO:when=3", b"Input/output error"),
        # The first commit writes its one page and the meta page so, the second only the meta page. LMDB then panics.
        ("pwrite64:error=ENOSPC:when=3", b"MDB_PANIC"),
    ],
    ids=["sync of the pages", "write of the meta page"],
)
def test_a_commit_that_fails_in_the_kernel_makes_the_writer_read_only(tmp_path: Path, fault: str, text: bytes) -> None:
    ours, theirs = socket.socketpair()
    open_environment(tmp_path / "index", sync=True).close()
    strace = ["strace", "-o", "/dev/null", "-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}"]
    arguments = writer_arguments(tmp_path, theirs)
    with subprocess.Popen([*strace, *arguments], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process, ours:
        theirs.close()
        seen = []
        for seq in (1, 2, 3):
            ours.sendall(encode_frame(put(seq, b"%d" % seq)))
            seen += read_answers(ours, 1)
        ours.shutdown(socket.SHUT_WR)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(20) == 0
    assert [answer.outcome for answer in seen] == [Outcome.OK, Outcome.READ_ONLY, Outcome.READ_ONLY]
    assert text in said
    environment = open_environment(tmp_path / "index", sync=True)
    with environment.begin() as transaction:
        assert [transaction.get(row_prefix(BUCKET) + name) for name in (b"1", b"2", b"3")] == [b"v", None, None]
    environment.close()


# --- the writer and its clients


def put(seq: int, key: bytes, value: bytes = b"v") -> Commit:
    return Commit(seq, BUCKET, {}, {key: value}, [], {})


def writer_arguments(tmp_path: Path, client: socket.socket) -> list[str]:
    program = [sys.executable, "-m", "aisobj.storage.index_writer"]
    return [*program, str(tmp_path / "index"), str(1 << 40), "sync", str(client.fileno())]


def read_answers(connection: socket.socket, count: int) -> list[Answer]:
    connection.settimeout(20)
    frames = FrameReader(decode_answers)
    answers: list[Answer] = []
    while len(answers) < count:
        data = connection.recv(65536)
        if not data:
            break
        for some in frames.feed(data):
            answers += some
    return answers


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[int], tuple[list[socket.socket], threading.Thread]]]:
    environment = open_environment(tmp_path / "index", sync=False)
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []

    def serve(count: int) -> tuple[list[socket.socket], threading.Thread]:
        pairs = [socket.socketpair() for _ in range(count)]
        writer = IndexWriter(environment, [theirs for _, theirs in pairs])

        def run() -> None:
            writer.run()
            writer.close()

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        sockets.extend(ours for ours, _ in pairs)
        return [ours for ours, _ in pairs], thread

    yield serve
    for connection in sockets:
        connection.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    environment.close()


def test_several_clients_are_served_and_the_writer_ends_with_the_last(served: Any) -> None:
    (one, two), thread = served(2)
    one.sendall(encode_frame(put(1, b"a")) + encode_frame(put(2, b"b")))
    two.sendall(encode_frame(Commit(1, BUCKET, {b"never": b"x"}, {}, [], {})))
    assert {(answer.seq, answer.outcome) for answer in read_answers(one, 2)} == {(1, Outcome.OK), (2, Outcome.OK)}
    assert read_answers(two, 1) == [Answer(1, Outcome.CONFLICT)]
    one.close()
    two.sendall(encode_frame(put(2, b"c")))
    assert read_answers(two, 1) == [Answer(2, Outcome.OK)]
    assert thread.is_alive()
    two.shutdown(socket.SHUT_WR)
    thread.join(20)
    assert not thread.is_alive()
    assert two.recv(1) == b""


def test_what_a_client_sent_before_it_went_away_is_finished(served: Any) -> None:
    (gone, other), _ = served(2)
    for seq in range(200):
        gone.sendall(encode_frame(put(seq, b"k")))
    gone.close()
    answers = []
    for seq in range(5):  # it is not waited for in the meantime, and the last of its commits is written in the end
        other.sendall(encode_frame(Commit(seq, BUCKET, {b"k": True}, {}, [], {})))
        answers += read_answers(other, 1)
    assert answers[-1] == Answer(4, Outcome.OK)


def test_commits_sent_before_the_end_of_the_stream_are_answered(served: Any) -> None:
    (one,), _ = served(1)
    one.sendall(b"".join(encode_frame(put(seq, b"%d" % seq)) for seq in range(3000)) + LENGTH.pack(9) + b"half")
    one.shutdown(socket.SHUT_WR)
    answers = read_answers(one, 3001)  # up to the end
    assert [answer.seq for answer in answers] == list(range(3000))
    assert {answer.outcome for answer in answers} == {Outcome.OK}


def test_a_client_that_takes_no_answers_does_not_keep_others_waiting(served: Any) -> None:
    (slow, other), _ = served(2)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    frames = b"".join(encode_frame(Commit(seq, b"", {}, {}, [], {})) for seq in range(50_000))
    sender = threading.Thread(target=slow.sendall, args=(frames,))
    sender.start()
    for seq in range(5):
        other.sendall(encode_frame(put(seq, b"%d" % seq)))
        assert read_answers(other, 1) == [Answer(seq, Outcome.OK)]
    assert [answer.seq for answer in read_answers(slow, 50_000)] == list(range(50_000))
    sender.join(20)


@pytest.mark.parametrize(
    "garbage", [LENGTH.pack(4) + b"\xc1\xc1\xc1\xc1", LENGTH.pack(MAX_FRAME + 1), LENGTH.pack(1) + b"\x90"]
)
def test_a_client_that_sends_garbage_is_cut_off_and_others_go_on(
    served: Any, garbage: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (bad, good), _ = served(2)
    bad.sendall(encode_frame(put(1, b"a")) + garbage)
    bad.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        assert bad.recv(100) == b""
    good.sendall(encode_frame(put(1, b"b")))
    assert read_answers(good, 1) == [Answer(1, Outcome.OK)]
    assert "cut off" in capfd.readouterr().err


def test_a_commit_with_a_key_that_lmdb_refuses_fails_alone(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "index", sync=False)
    writer = IndexWriter(environment, [])
    answers = writer.process([put(1, b"a"), put(2, b"k" * 1962), put(3, b"c")])
    assert [answer.outcome for answer in answers] == [Outcome.OK, Outcome.FAILED, Outcome.OK]
    assert "BAD_VALSIZE" in answers[1].text
    writer.close()
    environment.close()


def test_frames_arrive_whole_however_they_are_cut() -> None:
    commits = [put(n, b"key %d" % n, bytes(n * 7)) for n in range(20)]
    stream = b"".join(encode_frame(commit) for commit in commits)
    for step in (1, 3, 64, 1000, len(stream)):
        reader = FrameReader(decode_commit)
        got = [commit for start in range(0, len(stream), step) for commit in reader.feed(stream[start : start + step])]
        assert got == commits


@pytest_twisted.ensureDeferred
async def test_a_commit_over_the_limit_is_refused_and_the_next_one_works(opener: Opener) -> None:
    index = opener()
    with pytest.raises(ValueError):
        index.commit(BUCKET, {}, {b"a": bytes(MAX_FRAME)})
    assert await index.commit(BUCKET, {}, {b"a": b"1"}) is OK
