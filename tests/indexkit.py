"""What the tests of the index share: an LMDB environment that fails when told to, and the writer's side of a socket."""

from __future__ import annotations

import os
from typing import Any

import lmdb

from aisobj.storage.index_protocol import Commit

BUCKET = bytes(range(16))


def put(seq: int, key: bytes, value: bytes = b"v") -> Commit:
    return Commit(seq, BUCKET, {}, {key: value}, [], {})


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

    def reader_check(self) -> int:
        return self._environment.reader_check()
