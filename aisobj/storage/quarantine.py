"""What was found corrupt: a directory in which bad blobs are kept and bad rows are noted, in all processes at once.

::

    blobs/quarantine/<32 hex digits>         a blob, moved here; a GET of its object answers 500 from then on
    blobs/quarantine/blob-<32 hex>.json      what was wrong with it, and when that was seen
    blobs/quarantine/unowned-<32 hex>.json   a blob that an index restored or rebuilt by a tool does not know
    blobs/quarantine/row-<16 hex>.json       a row of the index that does not match its checksum; it stays where it is

Nothing here is ever removed by a server: an operator looks at it, puts the object back, and removes the entry.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from xxhash import xxh3_64_hexdigest

from aisobj.storage.blob_format import blob_path
from aisobj.storage.syncing import replace_file, sync_directory

NAME = "quarantine"
BLOB = "blob"
UNOWNED = "unowned"
_NOTE = ".json"


class Quarantine:
    """Of the blobs under ``root``: on their file system, so that a rename moves one. For the disk pool, or a tool."""

    def __init__(self, root: Path | str) -> None:
        self._root = str(root)
        self.path = os.path.join(self._root, NAME)

    def blob_path(self, blob_id: bytes) -> str:
        """Where a quarantined blob lies."""
        return os.path.join(self.path, blob_id.hex())

    def holds(self, blob_id: bytes) -> bool:
        return os.path.exists(self.blob_path(blob_id))

    def take(self, blob_id: bytes, why: str, kind: str = BLOB) -> bool:
        """Move a blob here; whether it was there to be moved. Another process may be doing the same. Raises OSError.

        :param kind: ``BLOB`` is a corrupt one, ``UNOWNED`` a sound one that nobody knows.
        """
        source = blob_path(self._root, blob_id)
        if not os.path.exists(source):
            return False
        self._note(f"{kind}-{blob_id.hex()}", {"blob": blob_id.hex(), "error": why})
        try:
            os.rename(source, self.blob_path(blob_id))
        except FileNotFoundError:
            if not self.holds(blob_id):  # it was removed: its object is gone, and so is the trouble
                os.unlink(os.path.join(self.path, f"{kind}-{blob_id.hex()}{_NOTE}"))
            return False
        for directory in (self.path, os.path.dirname(source)):
            sync_directory(directory)
        return True

    def note_row(self, partition: bytes, key: bytes, why: str) -> bool:
        """Remember that a row is corrupt; whether that is news. Raises OSError."""
        name = f"row-{xxh3_64_hexdigest(partition + key)}"
        if os.path.exists(os.path.join(self.path, name + _NOTE)):
            return False
        text = key.decode(errors="backslashreplace")
        self._note(name, {"partition": partition.hex(), "key": key.hex(), "text": text, "error": why})
        return True

    def count(self) -> int:
        """How many corrupt things there are, for the metrics."""
        return sum(not name.startswith(UNOWNED) for name in self.notes())

    def notes(self) -> list[str]:
        """The names of the notes, in order."""
        try:
            return sorted(name for name in os.listdir(self.path) if name.endswith(_NOTE))
        except FileNotFoundError:
            return []

    def _note(self, name: str, content: dict[str, str]) -> None:
        try:
            os.mkdir(self.path, 0o700)
            sync_directory(self._root)
        except FileExistsError:
            pass
        found = {**content, "found": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        path = os.path.join(self.path, name + _NOTE)
        replace_file(path, json.dumps(found).encode() + b"\n")
