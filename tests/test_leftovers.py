"""What processes leave that were killed, and who takes it away while the server runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from server import ServerProcess, environment
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from workerkit import one_to_each, scrape, until

from aisobj.shared_metrics import DIRECTORY_VARIABLE
from aisobj.storage.lmdb_env import open_environment
from aisobj.storage.upkeep import EmbeddedUpkeep, UpkeepSettings

MakeServer = Callable[..., ServerProcess]

#: A process that reads the index and is killed in the middle: it says so, and waits.
READER = """
import sys, time
from pathlib import Path
from aisobj.storage.index_reader import IndexReader
snapshot = IndexReader.open(Path(sys.argv[1])).snapshot(b"")
print("reading", flush=True)
time.sleep(600)
"""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[lmdb.Environment]:
    opened = open_environment(tmp_path / "index", sync=False)
    yield opened
    opened.close()


def killed_reader(path: Path, **options: Any) -> None:
    command = [sys.executable, "-c", READER, str(path)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, **options) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"reading\n"
        reader.kill()


def slots(index: lmdb.Environment) -> int:
    """Of other processes."""
    text: str = index.readers()
    return sum(line.split()[0] != str(os.getpid()) for line in text.splitlines()[1:] if line.split())


def test_a_tool_that_was_killed_holds_no_snapshot_for_long(index: lmdb.Environment, tmp_path: Path) -> None:
    clock: Any = Clock()
    settings = UpkeepSettings(backups=0, scrub_rate=0)
    EmbeddedUpkeep(clock, ThreadPool(0, 1), settings, tmp_path, index, 0).start()
    for _ in range(2):
        killed_reader(tmp_path / "index")
        assert slots(index) == 1
        clock.pump([1.0] * 61)
        assert slots(index) == 0


def test_the_writer_frees_the_snapshot_of_a_worker_that_was_killed(index: lmdb.Environment, tmp_path: Path) -> None:
    kept, kept_end = socket.socketpair()
    worker, worker_end = socket.socketpair()
    command = [sys.executable, "-m", "aisobj.storage.index_writer", str(tmp_path / "index"), str(1 << 40), "nosync"]
    ends = (kept_end.fileno(), worker_end.fileno())
    with subprocess.Popen([*command, *map(str, ends)], env=environment(), pass_fds=ends) as writer:
        kept_end.close()
        worker_end.close()
        assert kept.recv(100) and worker.recv(100)  # greeted: it has opened the index
        killed_reader(tmp_path / "index", pass_fds=(worker.fileno(),))
        assert slots(index) == 1
        worker.close()
        until(lambda: slots(index) == 0, "the slot stays")
        kept.close()
        assert writer.wait(30) == 0


def test_workers_that_were_killed_leave_no_files_of_metrics_and_no_count_is_lost(make_server: MakeServer) -> None:
    server = make_server(workers=2, expect_errors=True)
    one_to_each(server)[0].ask("PUT", "/s3/bucket")
    variables = Path(f"/proc/{server.pids_of('aisobj.worker')[0]}/environ").read_bytes().split(b"\0")
    [directory] = [
        Path(os.fsdecode(each.partition(b"=")[2])) for each in variables if DIRECTORY_VARIABLE.encode() in each
    ]
    put = 'ais_s3_requests_total{operation="PutObject",status="200"}'
    files = set()
    for generation in range(1, 3):
        for connection in one_to_each(server):
            assert connection.ask("PUT", "/s3/bucket/key", b"x").status == 200
        time.sleep(1.2)  # what was counted is written each second
        assert scrape(one_to_each(server)[0])[put] == 2 * generation
        files = {path.name for path in directory.iterdir() if not path.name.startswith("gauge")}
        workers = server.pids_of("aisobj.worker")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        until(lambda workers=workers: not set(workers) & set(server.pids_of("aisobj.worker")), "not replaced")  # type: ignore[misc]
    assert files == {f"{kind}_{number}.db" for kind in ("counter", "histogram") for number in range(2)}
    until(lambda: len(list(directory.glob("gauge*"))) == 2, "what says that they live stays")
