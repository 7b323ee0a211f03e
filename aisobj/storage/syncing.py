"""Making files and names durable, where the blobs' own seam (``files``) is not concerned: the index and its backups."""

from __future__ import annotations

import os
from pathlib import Path


def sync_file(path: Path | str) -> None:
    """Make what a file holds durable. Raises OSError."""
    _sync(path, 0)


def sync_directory(path: Path | str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    _sync(path, os.O_DIRECTORY)


def _sync(path: Path | str, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
