"""The server's memory does not grow with its objects: 16 uploads and 16 downloads of 256 MiB at once."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
import xxhash
from server import ServerProcess, running

MIB = 1 << 20
CLIENTS = 16
SIZE = 256 * MIB
LIMIT = 150_000_000
HANG_SECONDS = 300.0


class Peak:
    """The most that the server and its index writer took, looked at every 50 ms."""

    def __init__(self, server: ServerProcess) -> None:
        self.bytes = 0
        self._server = server
        self._end = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._server.rss())
            if self._end.wait(0.05):
                return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    if shutil.disk_usage(tmp_path).free < CLIENTS * SIZE + 1024 * MIB:
        pytest.skip("not enough room on the disk")
    with running(ServerProcess(tmp_path / "server", sync=True)) as process:
        yield process
    shutil.rmtree(process.data)  # 4 GiB


def test_memory_does_not_grow_with_the_objects(server: ServerProcess, tmp_path: Path) -> None:
    content = tmp_path / "content"
    block = os.urandom(MIB)
    with content.open("wb") as file:
        for number in range(SIZE // MIB):  # every MiB another, so that none can stand for another
            file.write(number.to_bytes(8, "big") + block[8:])
    digest = _xxh64(content)
    server.boto().create_bucket(Bucket="bucket")
    before = server.rss()

    peak = Peak(server)
    with peak.watched(), ThreadPoolExecutor(CLIENTS) as clients:
        etags = list(clients.map(lambda number: _upload(server, number, content), range(CLIENTS)))
        uploads = peak.bytes
        found = list(clients.map(lambda number: _download(server, number), range(CLIENTS)))
    assert etags == [digest] * CLIENTS
    assert found == [(SIZE, digest)] * CLIENTS
    print(f"MB before, in uploads, at all: {before / 1e6:.0f} {uploads / 1e6:.0f} {peak.bytes / 1e6:.0f}")
    assert 0 < before < peak.bytes < LIMIT


def _upload(server: ServerProcess, number: int, content: Path) -> str:
    """The ETag. The kernel moves the bytes."""
    with socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS) as connection, content.open("rb") as file:
        head = f"PUT /s3/bucket/key-{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n"
        connection.sendall(head.encode())
        connection.sendfile(file)
        with connection.makefile("rb") as answer:
            return _head(answer)["etag"].strip('"')


def _download(server: ServerProcess, number: int) -> tuple[int, str]:
    """Length and xxHash64 of what came."""
    buffer = memoryview(bytearray(MIB))
    digest, length = xxhash.xxh64(), 0
    with socket.create_connection(("127.0.0.1", server.port), HANG_SECONDS) as connection:
        connection.sendall(f"GET /s3/bucket/key-{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            left = int(_head(answer)["content-length"])
            while left and (count := answer.readinto(buffer[: min(left, MIB)])):
                digest.update(buffer[:count])
                length += count
                left -= count
    return length, digest.hexdigest()


def _head(answer: BinaryIO) -> dict[str, str]:
    """The headers of a 200."""
    lines = iter(answer.readline, b"\r\n")
    assert b" 200 " in next(lines)
    pairs = (line.decode().split(":", 1) for line in lines)
    return {name.lower(): value.strip() for name, value in pairs}


def _xxh64(path: Path) -> str:
    digest = xxhash.xxh64()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()
