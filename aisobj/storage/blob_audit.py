"""Blob files as those see them who check them all: in order, without a reactor, changing nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from aisobj.storage.blob_format import BLOB_NAME, MAX_BLOCK, Footer, blob_path
from aisobj.storage.blob_reader import open_blob
from aisobj.storage.files import FileSystem
from aisobj.storage.quarantine import Quarantine

_TOP = re.compile(r"[0-9a-f]{5}")
_LEAF = re.compile(r"[0-9a-f]{2}")


class BlobFiles:
    """The blob files under ``root`` (``DATA/blobs``). For one thread.

    :raises: its methods BlobMissing, CorruptData (a quarantined blob too), FormatError, StorageError.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.fs = FileSystem()
        self.quarantine = Quarantine(root)
        self._buffer = memoryview(bytearray(MAX_BLOCK))

    def path(self, blob_id: bytes) -> str:
        return blob_path(self.root, blob_id)

    def walk(self, after: bytes = b"") -> Iterator[bytes]:
        """The ids of all blobs that are greater than ``after``, in order; one directory is listed at a time."""
        since = after.hex()
        for top in _names(self.root, _TOP):
            if top < since[:5]:
                continue
            for leaf in _names(os.path.join(self.root, top), _LEAF):
                if top + leaf < since[:7]:
                    continue
                for name in _names(os.path.join(self.root, top, leaf), BLOB_NAME):
                    if name > since:
                        yield bytes.fromhex(name)

    def temporary(self) -> list[str]:
        """The names of the files that are being written, or were left by a crash."""
        return _names(os.path.join(self.root, "tmp"), re.compile(".*"))

    def footer(self, blob_id: bytes) -> Footer:
        """Verified."""
        blob = open_blob(self, blob_id)
        blob.close()
        return blob.footer

    def read(self, blob_id: bytes) -> Iterator[memoryview]:
        """All of its data, verified; a view is valid until the next one. At least one, empty for an empty blob."""
        blob = open_blob(self, blob_id)
        try:
            yield from blob.read_all(self._buffer)
        finally:
            blob.close()


def _names(path: str, form: re.Pattern[str]) -> list[str]:
    try:
        return sorted(name for name in os.listdir(path) if form.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
