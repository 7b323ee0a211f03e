"""A FileBlobs over a recording file system, for the tests of blob files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from faultyfiles import FaultyFiles
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from aisobj.storage.blob_writer import BATCH
from aisobj.storage.file_blobs import FileBlobs
from aisobj.storage.files import FileSystem
from aisobj.storage.ids import IdMaker

BYTES = random.Random(7).randbytes(3 * BATCH)
FOOTER = {"bucket": b"b" * 16, "key": b"k", "upload": b"u", "part": 3, "etag": "e", "metadata": b"m"}
MIB = 1 << 20


class Rig:
    """One FileBlobs over a recording file system."""

    def __init__(self, root: Path, pool: ThreadPool) -> None:
        self.root = root
        self.pool = pool
        self.fs = FaultyFiles()
        self.told: list[str] = []
        self.blobs = self.open(self.fs)

    def open(self, fs: FileSystem, **options: Any) -> FileBlobs:
        arguments = {"ids": IdMaker(), "sync": True, "reserve": 0, "on_read_only": self.told.append} | options
        return FileBlobs(self.root, reactor=reactor, pool=self.pool, fs=fs, **arguments)

    async def put(self, *chunks: bytes) -> bytes:
        writer = self.blobs.writer()
        try:
            for chunk in chunks:
                await (writer.write(chunk) or nothing())
            return await writer.commit(FOOTER)
        except BaseException:
            await writer.abort()
            raise

    async def get(self, blob_id: bytes, offset: int, length: int) -> bytes:
        reader: Any = await self.blobs.reader(blob_id, offset, length)
        try:
            data = b""
            while True:
                block = reader.next_block()
                block = await block if isinstance(block, Deferred) else block
                if block is None:
                    return data
                data += block
        finally:
            reader.close()
            await self.blobs.close()

    def path(self, blob_id: bytes) -> Path:
        name = blob_id.hex()
        return self.root / name[:5] / name[5:7] / name

    def files(self) -> list[Path]:
        return [path for path in self.root.rglob("*") if path.is_file()]


async def nothing() -> None:
    pass
