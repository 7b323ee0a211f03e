"""How many files a process may have open, and how many connections that is enough for."""

from __future__ import annotations

import resource

#: More open files than this are of no use to one process: connections (``Limits``), blobs and the rest.
_OPEN_FILES = 65536
#: Of a process that serves, without connections: the index, the log, pipes, connections that are being refused.
_OWN = 256


def allow_open_files() -> None:
    """Raise the soft limit as far as we are allowed and have use for: 1,024 is not enough for our connections.

    What we start inherits it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def affordable_connections(wanted: int) -> int:
    """At most ``wanted``: each may have a blob open. Never under 16, unless fewer are wanted."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(16, (soft - _OWN) // 2))
