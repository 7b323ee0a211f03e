"""The one seam between blobs and the operating system: every file-system call goes through a :class:`FileSystem`.

Tests put a recording or failing one in its place. Nothing here adds meaning to a call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Sequence

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h

# openat2(2): its number (the same on every architecture), fcntl.h, and struct open_how of linux/openat2.h
_OPENAT2, _AT_FDCWD = 437, -100
_READ_CACHED = struct.pack("QQQ", os.O_RDONLY | os.O_CLOEXEC, 0, 0x20)  # RESOLVE_CACHED

Buffer = bytes | bytearray | memoryview


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """sync_file_range(2), which Python does not wrap; None where there is none."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    call: Callable[[int, int, int, int], int] = function
    return call


_sync_file_range = _find_sync_file_range()


def _find_syscall() -> Callable[[int, int, bytes, bytes, int], int] | None:
    """syscall(2) for openat2(2), without giving the interpreter away: what it is used for never waits."""
    if sys.platform != "linux":
        return None
    try:
        function = ctypes.PyDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    function.restype = ctypes.c_long
    call: Callable[[int, int, bytes, bytes, int], int] = function
    return call


_syscall = _find_syscall()


class FileSystem:
    """Thin methods over ``os``: same arguments, same results, OSError."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags, mode)

    def open_cached(self, path: str) -> int:
        """Open for reading what the kernel finds without the disk.

        BlockingIOError: it would have to look there, also for what does not exist. ENOSYS, EINVAL, EPERM: it never can
        (before Linux 5.12; some containers).
        """
        if _syscall is None:
            raise OSError(errno.ENOSYS, "no openat2 on this system")
        fd = _syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), _READ_CACHED, len(_READ_CACHED))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return fd

    def close(self, fd: int) -> None:
        os.close(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def preadv(self, fd: int, buffer: memoryview, offset: int) -> int:
        return os.preadv(fd, [buffer], offset)

    def preadv_nowait(self, fd: int, buffer: memoryview, offset: int) -> int:
        """What the page cache holds, perhaps less than asked for. BlockingIOError: nothing; EOPNOTSUPP: never."""
        if _NOWAIT is None:
            raise OSError(errno.EOPNOTSUPP, "no RWF_NOWAIT on this system")
        return os.preadv(fd, [buffer], offset, _NOWAIT)

    def start_writeback(self, fd: int, offset: int, length: int) -> None:
        """Start writing dirty pages to disk, without waiting. An error stays with the file for its next sync."""
        if _sync_file_range is not None:
            _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)

    def copy_file_range(self, source: int, target: int, length: int, offset: int) -> int:
        if not hasattr(os, "copy_file_range"):
            raise OSError(errno.ENOSYS, "no copy_file_range on this system")
        return os.copy_file_range(source, target, length, offset, offset)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def statvfs(self, path: str) -> os.statvfs_result:
        return os.statvfs(path)
