"""Two names that change places in one step: renameat2(2) with RENAME_EXCHANGE, which Python does not wrap."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, linux/fs.h
#: What a file system answers that cannot do it, and a kernel, or a container, that does not know the call.
_NEVER = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})


def _find_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The C library's; None where it has none."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    call: Callable[[int, bytes, int, bytes, int], int] = function
    return call


_renameat2 = _find_renameat2()


def exchange(one: Path, other: Path) -> bool:
    """Each gets the other's name; nobody ever sees one without a file or directory. Not synced.

    :returns: False: it cannot be done here, and nothing is changed. :raises OSError: it failed.
    """
    if _renameat2 is None:
        return False
    if not _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _NEVER:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
