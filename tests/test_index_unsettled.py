"""A writer that is killed when its commit is written but not shown yet: nobody may look before that is settled."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from indexkit import BUCKET
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aisobj.errors import CommitUnknown
from aisobj.storage.index_protocol import Answer, FrameReader, Outcome, decode_commit, encode_frame
from aisobj.storage.interfaces import CommitResult
from aisobj.storage.lmdb_index import LmdbIndex

#: Long enough to look and to kill; nobody waits until it is over.
_STOPPED_SECONDS = 30


class StoppedWriter:
    """Starts writers; strace stops the first one when it has written its first commit's meta page, before it can tell
    the readers."""

    def __init__(self, path: Path) -> None:
        self.starts: list[float] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._path = path

    def start(self) -> socket.socket:
        self.starts.append(time.monotonic())
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "aisobj.storage.index_writer", str(self._path), str(1 << 40), "sync"]
        if len(self.starts) == 1:
            # Both logs' room, header and mark; then the first commit's record, its one page and the meta page.
            stop = f"pwrite64:delay_exit={_STOPPED_SECONDS * 10**6}:when=7"
            command = ["strace", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", f"inject={stop}", *command]
        with theirs:
            self.processes.append(subprocess.Popen([*command, str(theirs.fileno())], pass_fds=[theirs.fileno()]))
        return ours


async def pause(seconds: float) -> None:
    await deferLater(reactor, seconds, lambda: None)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@ensureDeferred
async def test_a_commit_that_is_written_but_not_shown_is_shown_before_it_is_called_unknown(tmp_path: Path) -> None:
    writers = StoppedWriter(tmp_path / "index")
    index = LmdbIndex.open(tmp_path / "index", reactor=reactor, start_writer=writers.start)
    before = (tmp_path / "index" / "data.mdb").read_bytes()[:8192]
    commit: Deferred[CommitResult] = index.commit(BUCKET, {}, {b"k": b"v"})
    deadline = time.monotonic() + 20
    while (tmp_path / "index" / "data.mdb").read_bytes()[:8192] == before:  # the two meta pages
        assert time.monotonic() < deadline
        await pause(0.01)
    await pause(0.1)
    assert index.get(BUCKET, [b"k"]) == [None], "written, but not shown: that is what this test is about"
    strace = writers.processes[0]
    writer = int(Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text())
    os.kill(writer, signal.SIGKILL)
    strace.kill()  # it has the writer's socket, too
    with pytest.raises(CommitUnknown):
        await commit
    assert index.get(BUCKET, [b"k"]) == [b"v"]
    assert len(writers.starts) == 2
    await index.close()
    for process in writers.processes:
        process.wait(20)


class ScriptedWriter:
    """The other ends of the connections, for the test to speak."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []

    def start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.settimeout(20)
        self.ends.append(theirs)
        return ours


@ensureDeferred
async def test_unknown_is_said_when_the_next_writer_has_greeted_and_not_before(tmp_path: Path) -> None:
    writers = ScriptedWriter()
    index = LmdbIndex.open(tmp_path / "index", reactor=reactor, sync=False, start_writer=writers.start)
    commit: Deferred[CommitResult] = index.commit(BUCKET, {}, {b"k": b"v"})
    first = writers.ends[0]
    await pause(0)  # what this turn commits is sent at its end
    (sent,) = FrameReader(decode_commit).feed(first.recv(10_000))
    first.close()
    while len(writers.ends) < 2:
        await pause(0.01)
    later: Deferred[CommitResult] = index.commit(BUCKET, {}, {b"k": b"w"})
    await pause(0.1)
    assert not commit.called
    second = writers.ends[1]
    second.sendall(encode_frame([Answer(-1, Outcome.OK)]))
    with pytest.raises(CommitUnknown):
        await commit
    assert not later.called
    second.sendall(encode_frame([Answer(sent.seq + 1, Outcome.OK)]))
    assert await later is CommitResult.OK
    closed = index.close()
    second.close()
    await closed


@ensureDeferred
async def test_a_client_that_knows_of_a_failed_sync_tells_the_next_writer(tmp_path: Path) -> None:
    writers = ScriptedWriter()
    index = LmdbIndex.open(tmp_path / "index", reactor=reactor, sync=False, start_writer=writers.start)
    index.refuse("the sync of a blob failed")
    assert index.read_only == "the sync of a blob failed"
    for number in range(2):
        while len(writers.ends) <= number:
            await pause(0.01)
        (said,) = FrameReader(decode_commit).feed(writers.ends[number].recv(10_000))
        assert said.refuse == "the sync of a blob failed"
        if not number:
            writers.ends[0].close()
    closed = index.close()
    with contextlib.suppress(OSError):
        writers.ends[1].close()
    await closed


@ensureDeferred
async def test_the_commits_of_one_turn_go_to_the_writer_together_at_its_end(tmp_path: Path) -> None:
    writers = ScriptedWriter()
    index = LmdbIndex.open(tmp_path / "index", reactor=reactor, sync=False, start_writer=writers.start)
    (writer,) = writers.ends
    await pause(0)
    commits: list[Deferred[CommitResult]] = [index.commit(BUCKET, {}, {b"%d" % n: b"v"}) for n in range(5)]
    writer.setblocking(False)
    with pytest.raises(BlockingIOError):
        writer.recv(1)
    await pause(0)
    sent = FrameReader(decode_commit).feed(writer.recv(100_000))
    assert [list(commit.put) for commit in sent] == [[b"%d" % n] for n in range(5)]
    writer.sendall(encode_frame([Answer(commit.seq, Outcome.OK) for commit in sent]))
    for commit in commits:
        assert await commit is CommitResult.OK
    # More than the kernel takes at once arrives whole, and in order, all the same.
    large: list[Deferred[CommitResult]] = [index.commit(BUCKET, {}, {b"%d" % n: bytes(2 << 20)}) for n in range(5)]
    frames, arrived = FrameReader(decode_commit), []
    while len(arrived) < len(large):
        await pause(0)
        with contextlib.suppress(BlockingIOError):
            arrived += frames.feed(writer.recv(1 << 20))
    assert [list(commit.put) for commit in arrived] == [[b"%d" % n] for n in range(5)]
    writer.sendall(encode_frame([Answer(commit.seq, Outcome.OK) for commit in arrived]))
    for commit in large:
        assert await commit is CommitResult.OK
    closed = index.close()
    writer.close()
    await closed
