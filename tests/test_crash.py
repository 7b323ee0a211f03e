"""Kill -9 in a loop under a mixed load: nothing acknowledged is lost, nothing torn is served, nothing deleted comes
back, and what was not acknowledged has happened or has not.

A killed process is no power cut: what it wrote is in the page cache. That a sync reached the disk is for other tests.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crashload import HANG_SECONDS, Client, Torn, Trouble, make_content, version_of
from forked_twistd import ACKNOWLEDGE_EARLY, ForkedServer, Forker
from fsck import check_directory

CYCLES = int(os.environ.get("CRASH_CYCLES", "100"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1 << 32)
CLIENTS = 4


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@contextlib.contextmanager
def serving(server: ForkedServer) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        server.kill()


class Crasher:
    """Runs clients against a server and kills it. ``crash`` is one cycle."""

    def __init__(self, server: ForkedServer, clients: Sequence[Client]) -> None:
        self._server = server
        self._clients = clients
        self._random = random.Random(SEED)
        self.writers_killed = 0
        self.workers_killed = 0

    @property
    def acknowledged(self) -> int:
        return sum(client.acknowledged for client in self._clients)

    @property
    def faults(self) -> list[str]:
        return [fault for client in self._clients for fault in client.faults]

    def crash(self) -> None:
        chance, server = self._random.random, self._server
        if chance() < 0.1:  # while it starts
            server.launch()
            time.sleep(0.1 * chance())
            server.kill()
        self.start()
        trouble = Trouble()
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(client.work, trouble) for client in self._clients]
            try:
                self._await_acknowledged(self._random.randrange(60))
                if chance() < 0.2:
                    trouble.writer.set()
                    self._kill_writer()
                    self._await_acknowledged(20)  # the service goes on
                if server.workers > 1 and chance() < 0.3:
                    trouble.worker.set()
                    self._kill_worker()
                    self._await_acknowledged(20)
                if chance() < 0.3:
                    trouble.all.set()
                    self._kill_writer()
            finally:
                trouble.all.set()
                server.kill()
            for each in working:
                each.result(HANG_SECONDS)

    def start(self) -> None:
        """Start the server; everybody looks at what is theirs."""
        self._server.start()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda client: client.verify(self._server.port), self._clients))

    def _await_acknowledged(self, more: int) -> None:
        enough, deadline = self.acknowledged + more, time.monotonic() + HANG_SECONDS
        while self.acknowledged < enough and not self.faults:
            assert time.monotonic() < deadline, f"it hangs:\n{self._server.log()}"
            time.sleep(0.001)

    def _kill_writer(self) -> None:
        for pid in self._server.pids_of("aisobj.storage.index_writer"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.writers_killed += 1

    def _kill_worker(self) -> None:
        pids = self._server.pids_of("aisobj.worker")
        if pids:  # they may all be between a death and a start
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self.workers_killed += 1


@pytest.mark.parametrize(("workers", "cycles"), [(1, CYCLES), (2, CYCLES // 4)])
def test_what_was_acknowledged_survives_kill_9(forker: Forker, tmp_path: Path, workers: int, cycles: int) -> None:
    server = ForkedServer(forker, tmp_path / "server", sync=True, workers=workers)
    clients = [Client(f"client{number}", "bucket", SEED + number) for number in range(CLIENTS)]
    crasher = Crasher(server, clients)
    with serving(server):
        server.start()
        server.boto().create_bucket(Bucket="bucket")
        server.kill()
        began = time.monotonic()
        for cycle in range(cycles):
            crasher.crash()
            assert not crasher.faults, (f"cycle {cycle}, CRASH_SEED={SEED}", crasher.faults, server.log())
        print(f"{cycles / (time.monotonic() - began):.1f} cycles/s, {crasher.acknowledged} operations acknowledged")
        assert crasher.acknowledged > 10 * cycles
        assert crasher.writers_killed or cycles < 20
        assert crasher.workers_killed or cycles < 20 or workers == 1
        crasher.start()
        server.stop()
        assert not crasher.faults
    assert "Traceback" not in server.log()
    assert check_directory(server.data) == []


def test_a_server_that_acknowledges_too_early_is_found_out(forker: Forker, tmp_path: Path) -> None:
    """The test above can fail."""
    honest = ForkedServer(forker, tmp_path / "server", sync=True)
    liar = ForkedServer(forker, tmp_path / "server", ACKNOWLEDGE_EARLY, sync=True)
    clients = [Client(f"client{number}", "bucket", SEED + number, reads=False) for number in range(CLIENTS)]
    with serving(honest):
        honest.start()
        honest.boto().create_bucket(Bucket="bucket")
    crasher = Crasher(liar, clients)
    with serving(liar):
        for _ in range(20):
            crasher.crash()
            if any(": lost" in fault or ": resurrected" in fault for fault in crasher.faults):
                return
    pytest.fail(f"it was not: {crasher.faults}")


@pytest.mark.parametrize("size", [0, 100, 3 << 20])
def test_torn_contents_are_seen(size: int) -> None:
    content = make_content("client-1", size)
    assert version_of(content) == "client-1"
    other = make_content("client-2", size)
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for torn in (flipped, content[:-1], content + b"\0", content[:half] + other[half:], b""):
        with pytest.raises(Torn):
            version_of(torn)
