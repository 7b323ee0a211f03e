"""A disk in a file that remembers in which order it was written to, and when it was told to flush.

    python -m reliability.blockdevice MOUNT_POINT LOG SIZE

mounts (FUSE, by PyPI's fusepy) a directory with one file, ``disk``. A file system is made on it and mounted through a
loop device. Each write and each flush is appended to LOG before it is answered, so the length of LOG is a clock.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "disk"
UNIT = 4096  #: what a disk writes at once; a longer write may stop between two of them
_HEAD = struct.Struct("<QI")
_FLUSH = 0xFFFFFFFF


def read_log(path: Path, end: int) -> Iterator[tuple[int, bytes] | None]:
    """(offset, data) of each write up to a length of the log; None: a flush."""
    with path.open("rb") as log:
        while log.tell() < end:
            offset, length = _HEAD.unpack(log.read(_HEAD.size))
            yield None if length == _FLUSH else (offset, log.read(length))


def entry_ends(path: Path) -> list[int]:
    """The lengths that the log has had."""
    ends, size = [0], path.stat().st_size
    with path.open("rb") as log:
        while log.tell() < size:
            _, length = _HEAD.unpack(log.read(_HEAD.size))
            if length != _FLUSH:
                log.seek(length, os.SEEK_CUR)
            ends.append(log.tell())
    return ends


class Disk:
    """What FUSE asks for."""

    def __init__(self, log: int, size: int) -> None:
        self._log = log
        self._size = size
        self._blocks: dict[int, bytearray] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path == f"/{NAME}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}
        raise OSError(errno.ENOENT, path)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", NAME]

    def read(self, path: str, length: int, offset: int, fh: int) -> bytes:
        found = bytearray()
        while length > 0 and offset < self._size:
            number, start = divmod(offset, UNIT)
            part = self._blocks.get(number, bytes(UNIT))[start : start + length]
            found += part
            offset += len(part)
            length -= len(part)
        return bytes(found)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        os.write(self._log, _HEAD.pack(offset, len(data)) + data)
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, UNIT)
            part = data[done : done + UNIT - start]
            self._blocks.setdefault(number, bytearray(UNIT))[start : start + len(part)] = part
            done += len(part)
        return done

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        os.write(self._log, _HEAD.pack(0, _FLUSH))
        return 0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return getattr(self, operation, _nothing)(*arguments)


def _nothing(*_: Any) -> int:
    return 0


def main() -> None:
    """The program. It ends when it is unmounted."""
    import fuse  # noqa: PLC0415

    mount_point, log, size = sys.argv[1:]
    disk = Disk(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), int(size))
    fuse.FUSE(disk, mount_point, foreground=True, nothreads=True, big_writes=True, max_write=131072)


if __name__ == "__main__":
    main()
