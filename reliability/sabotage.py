"""What can be wrong with a forked server, so that a harness is seen to find it out; and what makes it hurry."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

#: Arguments that are not twistd's: what is to be wrong with the server, so that a harness can be seen to find it out.
#: Changes are acknowledged 50 ms before anything is done about them.
ACKNOWLEDGE_EARLY = "--sabotage=acknowledge-early"
#: Directories are not synced (``--workers 1``).
SKIP_DIRECTORY_SYNC = "--sabotage=skip-directory-sync"
#: An error of a file-system call is taken for a success of it (``--workers 1``).
IGNORE_FAULTS = "--sabotage=ignore-faults"
#: Nothing that is read is compared with its checksum (``--workers 1``).
VERIFY_NOTHING = "--sabotage=verify-nothing"
#: What a killed server or a power cut has left of the index is not made whole (two workers or more).
SKIP_RECOVERY = "--sabotage=skip-recovery"
#: The index's log is taken for done with 200 ms before what it holds is in the index again.
FORGET_LOG = "--sabotage=forget-log"
#: No fault: the index has a log so small that most moments are in a checkpoint (two workers or more).
SMALL_LOG = "--small-log"
#: A process reads what it has read in the last 50 ms (with several workers).
STALE_READS = "--sabotage=stale-reads"
#: If-Match and If-None-Match of a PUT are looked at before its body is read, and not when it is stored.
RACY_CONDITIONS = "--sabotage=racy-conditions"
#: A page of a listing that begins within a common prefix shows that again.
FORGET_GROUPS = "--sabotage=forget-groups"
#: A query that is no UTF-8 is an exception that nobody expected (``--workers 1``).
TRUST_CLIENTS = "--sabotage=trust-clients"
#: That a client sends no more, within a request, goes unnoticed (``--workers 1``).
WAIT_FOR_EVER = "--sabotage=wait-for-ever"
#: Each connection leaves 64 KiB and a descriptor behind (``--workers 1``).
LEAK = "--sabotage=leak"
#: Every body is taken for the next request (``--workers 1``).
SMUGGLE = "--sabotage=smuggle"

#: No time-out of a connection ever ends it.
NO_TIME_OUTS = "--sabotage=no-time-outs"
#: No fault: clients must have read their answers after 15 s, not 55, for who has no time.
IMPATIENT = "--sabotage=impatient"
#: Clients are read from however much of their bodies waits for a disk, which is slow.
NO_BACK_PRESSURE = "--sabotage=no-back-pressure"
#: Syncs of blobs take as long as there is a file :data:`STUCK` in the working directory.
STUCK_DISK = "--sabotage=stuck-disk"
#: However much waits for the disk, more is begun.
NO_QUEUE_LIMIT = "--sabotage=no-queue-limit"
#: There may be more connections than files for them (``--workers 1``).
NO_FILE_LIMIT = "--sabotage=no-file-limit"
#: That there is no file for a newcomer is nothing to wait for (two workers or more).
NO_PAUSE = "--sabotage=no-pause"
#: What is in flight at the end is cut.
NO_DRAIN = "--sabotage=no-drain"

STUCK = "stuck"


def _acknowledge_early() -> None:
    from twisted.internet.defer import Deferred, succeed  # noqa: PLC0415

    from aisobj.storage import keys  # noqa: PLC0415
    from aisobj.storage.index_client import WriterClient  # noqa: PLC0415
    from aisobj.storage.interfaces import CommitResult  # noqa: PLC0415

    honest = WriterClient.commit

    def commit(self: WriterClient, commit: Any) -> Deferred[CommitResult]:
        if commit.partition == keys.ROOT:
            return honest(self, commit)
        reactor: Any = self._reactor
        reactor.callLater(0.05, lambda: honest(self, commit).addErrback(lambda _: None))
        return succeed(CommitResult.OK)

    WriterClient.commit = commit  # type: ignore[method-assign]


def _skip_directory_sync() -> None:
    from aisobj.storage.blob_directory import BlobDirectory  # noqa: PLC0415

    BlobDirectory.sync_directory = lambda self, path: None  # type: ignore[method-assign]


def _ignore_faults() -> None:
    from aisobj.storage.files import FileSystem  # noqa: PLC0415

    honest = FileSystem.fdatasync

    def fdatasync(self: FileSystem, fd: int) -> None:
        with contextlib.suppress(OSError):
            honest(self, fd)

    FileSystem.fdatasync = fdatasync  # type: ignore[method-assign]


def _verify_nothing() -> None:
    from reliability.unverified import verify_nothing  # noqa: PLC0415

    verify_nothing()


def _skip_recovery() -> None:
    from aisobj.storage import embedded  # noqa: PLC0415

    storage: Any = embedded
    storage.recover = lambda *_, **__: None


def _forget_log() -> None:
    from aisobj.storage import index_log, index_recovery  # noqa: PLC0415

    storage: Any = index_recovery
    honest = storage._apply

    def apply(environment: Any, records: Any) -> None:
        records = list(records)
        logs = [index_log.LogFile(path, create=False) for path in Path(environment.path()).glob("log.*")]
        index_log.clear_logs(logs)
        for log in logs:
            log.close()
        time.sleep(0.2)
        honest(environment, records)

    storage._apply = apply


def _small_log() -> None:
    from aisobj.storage import index_log  # noqa: PLC0415

    index_log.LOG_SIZE = 64 << 10  # type: ignore[misc]


def _stale_reads() -> None:
    from aisobj.storage.lmdb_env import row_prefix  # noqa: PLC0415
    from aisobj.storage.lmdb_index import LmdbSnapshot  # noqa: PLC0415

    kept: list[Any] = [0.0, None]

    def begin(self: LmdbSnapshot, environment: Any, partition: bytes) -> None:
        if time.monotonic() > kept[0]:
            kept[:] = time.monotonic() + 0.05, environment.begin()
        self._prefix, self._transaction, self._cursor = row_prefix(partition), kept[1], None
        self.version = kept[1].id()

    LmdbSnapshot.__init__ = begin  # type: ignore[method-assign]
    LmdbSnapshot.close = lambda self: None  # type: ignore[method-assign]


def _racy_conditions() -> None:
    from aisobj.protocol.conditions import WritePrecondition  # noqa: PLC0415
    from aisobj.storage.objects import Objects  # noqa: PLC0415

    honest = Objects.put

    def put(self: Objects, name: str, key: bytes, body: Any, attributes: Any, *_: object) -> Any:
        return honest(self, name, key, body, attributes, WritePrecondition.none)

    Objects.put = put  # type: ignore[method-assign, assignment]


def _forget_groups() -> None:
    from aisobj.protocol import listing  # noqa: PLC0415

    listing._past_group = lambda after, prefix, delimiter: b""


def _trust_clients() -> None:
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415

    from aisobj.protocol.query import parse_query  # noqa: PLC0415
    from aisobj.s3 import call  # noqa: PLC0415

    def trusting(query: bytes) -> Any:
        unquote_to_bytes(query).decode()
        return parse_query(query)

    setattr(call, "parse_query", trusting)  # noqa: B010


def _wait_for_ever() -> None:
    from aisobj.web.channel import Channel  # noqa: PLC0415

    honest = Channel.readConnectionLost

    def read_connection_lost(self: Channel) -> None:
        if self._body is None and not self._buffer:
            honest(self)

    Channel.readConnectionLost = read_connection_lost  # type: ignore[method-assign]


def _leak() -> None:
    from aisobj.web.channel import Channel  # noqa: PLC0415

    honest = Channel.connectionMade
    leaked: list[Any] = []

    def connection_made(self: Channel) -> None:
        leaked.append((b"\1" * (64 << 10), os.dup(1)))
        honest(self)

    Channel.connectionMade = connection_made  # type: ignore[method-assign]


def _smuggle() -> None:
    from aisobj.web import channel  # noqa: PLC0415
    from aisobj.web.head import Head, parse_head  # noqa: PLC0415
    from aisobj.web.limits import Limits  # noqa: PLC0415

    def parse(data: bytes, limits: Limits) -> Head:
        head = parse_head(data, limits)
        head.length = 0
        return head

    setattr(channel, "parse_head", parse)  # noqa: B010


def _no_time_outs() -> None:
    from aisobj.web.channel import Channel  # noqa: PLC0415

    Channel.check = lambda self, now, since: None  # type: ignore[method-assign]


def _impatient() -> None:
    from aisobj.web.limits import Limits  # noqa: PLC0415

    honest = Limits.__init__

    def init(self: Limits, **limits: Any) -> None:
        honest(self, **({"response_grace_seconds": 15.0} | limits))

    Limits.__init__ = init  # type: ignore[method-assign, assignment]


def _no_back_pressure() -> None:
    from aisobj.storage.blob_writer import BlobFile  # noqa: PLC0415
    from aisobj.web.channel import Channel  # noqa: PLC0415

    honest = BlobFile.append

    def append(self: BlobFile, chunks: Any) -> None:
        time.sleep(0.3)
        honest(self, chunks)

    BlobFile.append = append  # type: ignore[method-assign]
    Channel._pause_or_resume = lambda self: None  # type: ignore[method-assign]


def _stuck_disk() -> None:
    from aisobj.storage.files import FileSystem  # noqa: PLC0415

    honest = FileSystem.fdatasync

    def fdatasync(self: FileSystem, fd: int) -> None:
        while os.path.exists(STUCK):
            time.sleep(0.05)
        honest(self, fd)

    FileSystem.fdatasync = fdatasync  # type: ignore[method-assign]


def _no_queue_limit() -> None:
    from aisobj.storage.jobs import Jobs  # noqa: PLC0415

    Jobs.check = lambda self: None  # type: ignore[method-assign]


def _no_file_limit() -> None:
    from aisobj import tap  # noqa: PLC0415

    setattr(tap, "affordable_connections", lambda wanted: wanted)  # noqa: B010


def _no_pause() -> None:
    from aisobj import listening  # noqa: PLC0415

    listening._NO_MORE = frozenset()


def _no_drain() -> None:
    from aisobj import serving  # noqa: PLC0415

    serving.DRAIN_SECONDS = 0.0


SABOTAGES = {
    NO_TIME_OUTS: _no_time_outs,
    IMPATIENT: _impatient,
    NO_BACK_PRESSURE: _no_back_pressure,
    STUCK_DISK: _stuck_disk,
    NO_QUEUE_LIMIT: _no_queue_limit,
    NO_FILE_LIMIT: _no_file_limit,
    NO_PAUSE: _no_pause,
    NO_DRAIN: _no_drain,
    ACKNOWLEDGE_EARLY: _acknowledge_early,
    SKIP_DIRECTORY_SYNC: _skip_directory_sync,
    IGNORE_FAULTS: _ignore_faults,
    VERIFY_NOTHING: _verify_nothing,
    SKIP_RECOVERY: _skip_recovery,
    FORGET_LOG: _forget_log,
    SMALL_LOG: _small_log,
    STALE_READS: _stale_reads,
    RACY_CONDITIONS: _racy_conditions,
    FORGET_GROUPS: _forget_groups,
    TRUST_CLIENTS: _trust_clients,
    WAIT_FOR_EVER: _wait_for_ever,
    LEAK: _leak,
    SMUGGLE: _smuggle,
}
