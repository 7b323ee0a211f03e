"""Blobs that no row of the index named when a server started: mostly what a crash kept from becoming an object, but
also what an index has lost that was damaged. So they are kept for a while, out of the way of everything::

    blobs/orphans/<time of the start, 20261126T071500Z>/<32 hex digits>

A tool that puts a sound index in place of a damaged one gives them back first.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator

from aisobj.storage.blob_format import BLOB_NAME, blob_path
from aisobj.storage.syncing import sync_directory

ORPHANS = "orphans"
#: How long they are kept, seconds.
KEPT = 7 * 24 * 3600.0

_FORM = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"\d{8}T\d{6}Z")


def orphans_name(time_ns: int) -> str:
    """Of the directory of a start, by its time since the epoch."""
    return time.strftime(_FORM, time.gmtime(time_ns // 10**9))


def count_orphans(root: str) -> int:
    """How many there are, below the directory of the blobs. Raises OSError."""
    return sum(1 for _ in _blobs(root))


def drop_old_orphans(root: str, now: float) -> int:
    """Remove those that were found longer ago than ``KEPT``; of how many starts. ``now``: seconds since the epoch."""
    oldest, dropped = orphans_name(int((now - KEPT) * 10**9)), 0
    for path in _directories(root):
        if os.path.basename(path) < oldest:
            shutil.rmtree(path)
            dropped += 1
    return dropped


def give_back(root: str) -> int:
    """Put all of them where an index looks for them, durably. How many. Raises OSError."""
    returned, leaves = 0, set()
    for source in list(_blobs(root)):
        target = blob_path(root, bytes.fromhex(os.path.basename(source)))
        leaf = os.path.dirname(target)
        os.makedirs(leaf, 0o700, exist_ok=True)
        os.rename(source, target)
        leaves |= {leaf, os.path.dirname(leaf), root}
        returned += 1
    for leaf in sorted(leaves, reverse=True):
        sync_directory(leaf)
    return returned


def _blobs(root: str) -> Iterator[str]:
    for path in _directories(root):
        yield from (os.path.join(path, name) for name in sorted(os.listdir(path)) if BLOB_NAME.fullmatch(name))


def _directories(root: str) -> Iterator[str]:
    top = os.path.join(root, ORPHANS)
    try:
        names = sorted(name for name in os.listdir(top) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return
    for name in names:
        yield os.path.join(top, name)
