"""The transactions of the index's one writer: all of a batch of commits in one, durable before it shows.

How a commit can fail, and what is then on disk: its record in the log (``index_log``) is written and synced before LMDB
commits; a failure before that, or of that, has changed nothing. Where LMDB then cannot write its pages, the record is
taken back. Where the meta page's write fails LMDB puts the old one back and refuses all later transactions (MDB_PANIC).
A failure that is not a lack of room makes the writer read-only for good: after a sync that failed nobody knows what the
kernel dropped, and a second one would say all is well.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import lmdb

from aisobj.storage.index_log import IndexLog, is_no_room
from aisobj.storage.index_protocol import Answer, Commit, Outcome
from aisobj.storage.index_rows import IndexRows, write_rows

_SHORT_WRITE: Final = -30772  # MDB_SHORT_WRITE, lmdb.h; py-lmdb has no class for it
#: a write that found no room: before the meta page, so nothing has changed
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, _SHORT_WRITE})


class _NotWritten(Exception):
    """A transaction was given up before it changed anything."""

    def __init__(self, outcome: Outcome, reason: Exception) -> None:
        super().__init__(f"{type(reason).__name__}: {reason}")
        self.outcome = outcome


class IndexTransactions:
    """For one thread, but ``read_only``.

    :param environment: stays the caller's, who closes it after :meth:`close_log`.
    :param read_only: begin with this as :attr:`read_only`.
    :param log: makes commits durable, from now on this object's; without it a power cut may lose or spoil everything.
    :ivar read_only: why nothing is written any more, or "".
    """

    def __init__(self, environment: lmdb.Environment, read_only: str = "", log: IndexLog | None = None) -> None:
        self.read_only = read_only
        self._environment = environment
        self._log = log

    def close_log(self) -> None:
        """Leave an index that needs no log, if nothing has failed. Before its environment is closed; idempotent."""
        if self._log is not None:
            try:
                self._log.close(keep=bool(self.read_only))
            except OSError as error:
                note(f"the index keeps its log: {error}")
            self._log = None

    def process(self, commits: Sequence[Commit]) -> list[Answer]:
        """Write commits, each seeing those before it, and make them durable. One answer each, in order."""
        if self.read_only:
            return [Answer(commit.seq, Outcome.READ_ONLY, self.read_only) for commit in commits]
        try:
            try:
                return self._transact(commits)
            except _NotWritten as error:
                if error.outcome is not Outcome.FULL or self._log is None or not all(one.delete for one in commits):
                    raise
                # A checkpoint makes room: LMDB may use pages again, and the next log has some of its own. That room is
                # for what takes something away.
                self._log.checkpoint(wait=True)
                return self._transact(commits)
        except _NotWritten as error:
            if len(commits) == 1:
                return [Answer(commits[0].seq, error.outcome, str(error))]
        except (lmdb.Error, OSError) as error:
            self.read_only = f"the index could not be written: {type(error).__name__}: {error}"
            note(self.read_only)
            return self.process(commits)
        # One of them does not fit or is not valid: each in a transaction of its own, so that the others succeed.
        return [answer for commit in commits for answer in self.process([commit])]

    def _transact(self, commits: Sequence[Commit]) -> list[Answer]:
        """All of them in one transaction.

        Raises _NotWritten, or lmdb.Error or OSError if nobody knows what is on disk.
        """
        transaction = self._environment.begin(write=True)
        try:
            rows = IndexRows(transaction.get)
            answers = [Answer(commit.seq, Outcome.OK if rows.apply(commit) else Outcome.CONFLICT) for commit in commits]
            delete, put = rows.changes()
            write_rows(transaction, delete, put)
        except Exception as error:
            transaction.abort()
            if _is_no_room(error):
                raise _NotWritten(Outcome.FULL, error) from error
            if _code(error) > 0:
                raise  # an errno: pages of a large transaction are written before its end
            raise _NotWritten(Outcome.FAILED, error) from error
        if not delete and not put:
            transaction.abort()
            return answers
        self._make_durable(transaction, delete, put)
        try:
            transaction.commit()
        except lmdb.Error as error:
            if self._log is not None:
                self._log.void()
            if not _is_no_room(error):
                raise
            # It was the meta page if LMDB now refuses to go on: MDB_PANIC, another lmdb.Error.
            self._environment.begin(write=True).abort()
            raise _NotWritten(Outcome.FULL, error) from error
        return answers

    def _make_durable(
        self, transaction: lmdb.Transaction[bytes], delete: Sequence[bytes], put: Mapping[bytes, bytes]
    ) -> None:
        """What a transaction is about to show. Raises as :meth:`_transact`, and then it is given up."""
        if self._log is None:
            return
        try:
            self._log.append(delete, put)
        except OSError as error:
            transaction.abort()
            if not is_no_room(error):
                raise
            raise _NotWritten(Outcome.FULL, error) from error

    def refuse(self, why: str) -> None:
        """Write nothing more."""
        if not self.read_only:
            self.read_only = why
            note(f"read-only from now on: {why}")


def _code(error: Exception) -> int:
    """LMDB's code (negative) or the system's errno. Errors that py-lmdb finds by itself have none: 0."""
    return getattr(error, "code", 0)


def _is_no_room(error: Exception) -> bool:
    return isinstance(error, lmdb.MapFullError) or _code(error) in _NO_ROOM


def note(text: str) -> None:
    """A line for the server's log."""
    with contextlib.suppress(OSError):  # nobody listens any more
        print(f"index writer: {text}", file=sys.stderr, flush=True)
