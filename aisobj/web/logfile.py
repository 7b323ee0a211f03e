"""A log that several workers write to: one file, whole lines, opened again after a rotation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from select import PIPE_BUF
from stat import S_ISREG

from twisted.logger import Logger


class LogFile:
    """Owns its descriptor, unless that is the standard output. A write to a file is not mixed with those of other
    workers, however long it is (``O_APPEND``); to a pipe, lines of up to ``PIPE_BUF`` bytes are not.

    :param path: of a file to append to, created with mode 0640; ``-`` is the standard output.
    :param what: what to call it in the server's log.
    :raises OSError: the file cannot be opened.
    """

    _log = Logger()

    def __init__(self, path: str, what: str) -> None:
        self._path = path
        self._what = what
        self._failing = False
        self._torn = False
        self._fd = self._open()
        self._whole = S_ISREG(os.fstat(self._fd).st_mode)

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, lines: bytes) -> None:
        """Append whole lines. What cannot be written (a full disk) is lost and stops no request: the server's log says
        so once, until it can be written again.
        """
        if self._torn:  # half a line is at the end, or was
            lines = b"\n" + lines
        try:
            for piece in [lines] if self._whole else _atomic(lines):
                rest = piece
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
                    self._torn = bool(rest)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._log.error(
                    "{what} {path} cannot be written: {error}", what=self._what, path=self._path, error=error
                )
            self._failing = True

    def reopen(self) -> None:
        """After the file was renamed (logrotate); the old one is kept if the new one cannot be opened.

        :raises OSError:
        """
        if self._path != "-":
            old, self._fd = self._fd, self._open()
            os.close(old)
            self._torn = False

    def close(self) -> None:
        """Give the file back. What is written later is lost."""
        if self._path != "-":
            os.close(self._fd)
            self._fd = -1


def _atomic(data: bytes) -> Iterator[bytes]:
    """Whole lines, as many at a time as a pipe takes without mixing them with what other workers write."""
    start = 0
    while len(data) - start > PIPE_BUF:
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1 or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
    yield data[start:]
