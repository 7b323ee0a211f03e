"""The index's one writer, spoken to as its clients do: order, several clients, and disks that fail in the kernel."""

from __future__ import annotations

import contextlib
import errno
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import pytest
from indexkit import BUCKET, FailingEnvironment, lmdb_error, put

from aisobj.storage import index_writer
from aisobj.storage.index_protocol import (
    LENGTH,
    MAX_FRAME,
    NOTICE,
    Answer,
    Commit,
    FrameReader,
    Outcome,
    append_frame,
    decode_answers,
    decode_commit,
    encode_frame,
    notice_commit,
)
from aisobj.storage.index_writer import IndexWriter
from aisobj.storage.lmdb_env import open_environment, row_prefix


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
            answers += [answer for answer in some if answer.seq != NOTICE]
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


class CountingWriter(IndexWriter):
    """Each of its transactions takes so many seconds by the clock that it goes by."""

    seconds = 0.0
    takes = 100.0
    batches: list[int]

    def process(self, commits: Sequence[Commit]) -> list[Answer]:
        self.seconds += self.takes
        self.batches.append(len(commits))
        return super().process(commits)


@contextlib.contextmanager
def counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clients: int, patience: float
) -> Iterator[tuple[CountingWriter, list[socket.socket]]]:
    """A writer that waits for so many seconds at most, as good as for ever."""
    environment = open_environment(tmp_path / "index", sync=False)
    pairs = [socket.socketpair() for _ in range(clients)]
    writer = CountingWriter(environment, [theirs for _, theirs in pairs])
    writer.batches = []
    monkeypatch.setattr(index_writer, "time", SimpleNamespace(monotonic=lambda: writer.seconds))
    monkeypatch.setattr(index_writer, "MAX_GATHERING", patience)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer, [ours for ours, _ in pairs]
    finally:
        for ours, _ in pairs:
            ours.close()
        thread.join(20)
        writer.close()
        environment.close()


def commit_four(connection: socket.socket) -> None:
    """In one transaction."""
    connection.sendall(b"".join(encode_frame(put(seq, b"a%d" % seq)) for seq in range(4)))
    assert len(read_answers(connection, 4)) == 4


def test_a_transaction_waits_for_as_many_commits_as_the_last_one_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(tmp_path, monkeypatch, 2, 1000.0) as (writer, (one, two)):
        commit_four(one)
        one.sendall(encode_frame(put(4, b"b")) + encode_frame(put(5, b"c")))
        assert not select.select([one], [], [], 0.1)[0]
        two.sendall(encode_frame(put(1, b"d")) + encode_frame(put(2, b"e")))  # from whom they come does not matter
        assert len(read_answers(one, 2) + read_answers(two, 2)) == 4
        assert writer.batches == [2, 4, 4]  # the first are greetings


def test_it_does_not_wait_for_those_that_do_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(tmp_path, monkeypatch, 1, 0.001) as (writer, (one,)):
        commit_four(one)
        one.sendall(encode_frame(put(4, b"b")))
        assert read_answers(one, 1) == [Answer(4, Outcome.OK)]
        assert writer.batches == [1, 4, 1]


def test_it_waits_no_longer_than_a_few_times_what_the_last_one_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(tmp_path, monkeypatch, 2, 1000.0) as (writer, (one, two)):
        commit_four(one)
        one.sendall(encode_frame(put(4, b"b")))
        assert not select.select([one], [], [], 0.1)[0]
        writer.seconds += 500.0
        two.sendall(encode_frame(put(1, b"c"))[:3])  # something comes all the time
        assert read_answers(one, 1) == [Answer(4, Outcome.OK)]
        writer.takes = 0.0
        commit_four(one)
        one.sendall(encode_frame(put(9, b"b")))
        assert read_answers(one, 1) == [Answer(9, Outcome.OK)]


def test_a_client_alone_is_never_kept_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(tmp_path, monkeypatch, 1, 1000.0) as (_, (one,)):
        for seq in range(5):
            one.sendall(encode_frame(put(seq, b"a")))
            assert read_answers(one, 1) == [Answer(seq, Outcome.OK)]


def test_what_a_client_sent_before_it_went_away_is_finished(served: Any) -> None:
    (gone, other), _ = served(2)
    for seq in range(200):
        gone.sendall(encode_frame(put(seq, b"k")))
    gone.close()
    answers = []
    for seq in range(5):  # it is not waited for in the meantime, and the last of its commits is written in the end
        other.sendall(encode_frame(Commit(seq, BUCKET, {b"k": 1}, {}, [], {})))
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
        while bad.recv(100):  # the greeting, then the end
            pass
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


def test_a_commit_that_cannot_be_encoded_leaves_nothing_of_itself() -> None:
    frames = encode_frame(put(1, b"a"))
    before = bytes(frames)
    with pytest.raises(TypeError):
        append_frame(frames, Commit(2, BUCKET, {}, {b"k": b"v", b"l": object()}, [], {}))  # type: ignore[dict-item]
    assert frames == before


def test_a_writer_that_is_read_only_says_so_to_every_client(tmp_path: Path) -> None:
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
    lines = trace.read_text().splitlines()
    _greeting, sent = [number for number, line in enumerate(lines) if line.startswith("sendto(")]
    logged = max(number for number, line in enumerate(lines[:sent]) if re.match(r"pwrite64\(\d+<.*/log\.1>", line))
    record, sync, *pages = lines[logged:sent]
    assert re.match(r"fdatasync\(\d+<.*/log\.1>", sync), "the record is synced next"
    assert pages and all(re.match(r"(pwrite64|pwritev|writev)\(\d+<.*/data\.mdb>", line) for line in pages), (
        "then LMDB shows it, without a sync"
    )
    assert all(re.search(r"= \d+$", line) for line in (record, sync, *pages)), "and all succeeded"


@needs_strace
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        # Of the index and of a new log, when it begins; of the first commit, and of the second.
        ("fdatasync:error=EIO:when=5", b"Input/output error"),
        # Both logs' room, header and mark; then of each commit the record, the first one's page, and the meta page.
        ("pwrite64:error=ENOSPC:when=9", b"MDB_PANIC"),
    ],
    ids=["sync of the record", "write of the meta page"],
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


def greeting(connection: socket.socket) -> Answer:
    """The first thing a writer says."""
    connection.settimeout(20)
    ((answer,),) = FrameReader(decode_answers).feed(connection.recv(1000))
    assert answer.seq == NOTICE
    return answer


def test_who_connects_to_the_listening_socket_is_greeted_and_served_until_all_have_left(tmp_path: Path) -> None:
    environment = open_environment(tmp_path / "index", sync=False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    ours, theirs = socket.socketpair()
    writer = IndexWriter(environment, [theirs], listener=listener)
    thread = threading.Thread(target=writer.run)
    thread.start()
    assert greeting(ours).outcome is Outcome.OK
    late = socket.socket(socket.AF_UNIX)
    late.connect(str(tmp_path / "socket"))
    assert greeting(late).outcome is Outcome.OK
    ours.close()
    late.sendall(encode_frame(put(1, b"a")))
    assert read_answers(late, 1) == [Answer(1, Outcome.OK)]
    assert thread.is_alive()
    late.close()
    thread.join(20)
    assert not thread.is_alive()
    writer.close()
    environment.close()


def test_when_one_client_says_that_a_sync_failed_all_are_told_at_once(served: Any) -> None:
    (one, two), _ = served(2)
    assert greeting(one).outcome is greeting(two).outcome is Outcome.OK
    one.sendall(encode_frame(notice_commit("the sync of a blob failed")))
    for client in (one, two):  # neither has asked for anything
        assert greeting(client) == Answer(NOTICE, Outcome.READ_ONLY, "the sync of a blob failed")
    two.sendall(encode_frame(put(1, b"a")))
    assert read_answers(two, 1) == [Answer(1, Outcome.READ_ONLY, "the sync of a blob failed")]


def test_a_writer_that_cannot_open_the_index_says_why(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"not an index" * 1000)
    ours, theirs = socket.socketpair()
    with subprocess.Popen(writer_arguments(tmp_path, theirs), pass_fds=[theirs.fileno()]) as process, ours:
        theirs.close()
        answer = greeting(ours)
        assert process.wait(20) == 1
    assert answer.outcome is Outcome.FAILED and str(tmp_path / "index") in answer.text
