"""One of several workers, a process of its own: ``python -m aisobj.worker``, run by the master and by nobody else.

It holds the data directory's lock from its first moment, so it must end with its master at any moment, also while it
imports or waits for a disk: a thread sees to that, and begins before anything large is imported. What a worker does is
in ``working``.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

#: Descriptors: the pipe from the master, the one to it, the data directory's lock, then a socket for each endpoint, in
#: the order of ``Settings.listen``.
FROM_MASTER = 3
TO_MASTER = 4
LOCK = 5
FIRST_SOCKET = 6


def end_with_master() -> Callable[[], None]:
    """End this process at once when the master does, which closes the pipe's other end; call the result to stop that.

    Nobody is told how it ends then. What was sent to the index writer is finished by that; what a job in the disk pool
    is in the middle of is over before the kernel gives the lock back.
    """
    leaving = threading.Event()
    pipe = select.poll()
    pipe.register(os.dup(FROM_MASTER), 0)  # only its end

    def watch() -> None:
        pipe.poll()
        if not leaving.is_set():
            os._exit(1)

    threading.Thread(target=watch, name="end with master", daemon=True).start()
    return leaving.set


def main() -> None:
    """The process. It ignores SIGINT, SIGTERM and SIGHUP, which also reach it where a terminal or systemd signals the
    whole group: the master decides.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    leave = end_with_master()
    from aisobj.working import work  # noqa: PLC0415 (large)

    work(leave)


if __name__ == "__main__":
    main()
