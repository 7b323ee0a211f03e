"""What the C library does with memory that is given back: keep some of it for the next request."""

from __future__ import annotations

import ctypes

# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

#: What a process keeps of the end of its heap. Four uploads churn through 10 MiB.
KEEP = 16 * 1024 * 1024
#: Smaller pieces come from the heap. What a connection reads at once is, and so are the documents of S3.
FROM_HEAP = 8 * 1024 * 1024


def keep_heap() -> bool:
    """Have ``free`` keep up to :data:`KEEP` bytes instead of 128 KiB. False where the C library is not glibc.

    Each read from a socket makes a ``bytes`` of up to 256 KiB, and each batch written to a disk gives several back.
    Returned to the kernel, every page of them comes back by a fault that has to clear it (docs/performance.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # Both, or glibc adjusts the one to the sizes that it sees.
    return bool(mallopt(_M_TRIM_THRESHOLD, KEEP)) and bool(mallopt(_M_MMAP_THRESHOLD, FROM_HEAP))
