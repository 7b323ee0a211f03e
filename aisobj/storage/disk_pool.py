"""The threads that wait for the disk and hash what goes there."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Thread

from twisted.python.threadpool import ThreadPool

#: More do not make one disk faster; fewer would let a slow write hold up every read.
_THREADS = 8
#: Added to the nice value that the process was started with. Where there are too few cores the reactor, which small
#: requests wait for, goes before a large body. Measured: docs/performance.md.
NICENESS = 10


class _DiskThread(Thread):
    def run(self) -> None:
        # Of this thread alone: a nice value is a thread's on Linux (setpriority(2), "C library/kernel differences").
        with suppress(OSError):  # a sandbox may forbid it; then they are as the reactor is
            os.nice(NICENESS)
        super().run()


class DiskPool(ThreadPool):
    """One for a process. Whoever starts it stops it."""

    threadFactory = _DiskThread

    def __init__(self) -> None:
        super().__init__(0, _THREADS, "disk")
