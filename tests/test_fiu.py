"""fiu on a live server: calls of libc fail in processes that run already, by ``fiu-ctrl``, and work again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from s3raw import Sender
from server import ServerProcess

from benchmarks.processes import descendants

LIBRARIES = ("/usr/lib/fiu/fiu_run_preload.so", "/usr/lib/fiu/fiu_posix_preload.so")

pytestmark = pytest.mark.skipif(not all(map(os.path.exists, LIBRARIES)), reason="fiu-utils is not installed")

LARGE = b"x" * 300_000
SMALL = b"x" * 100
WORKER, WRITER = "aisobj.worker", "aisobj.storage.index_writer"


class Live:
    """A server with two workers in which faults can be switched on."""

    def __init__(self, make_server: Callable[..., ServerProcess], home: Path) -> None:
        self._fifo = home / "fiu"
        env = {"LD_PRELOAD": " ".join(LIBRARIES), "FIU_ENABLE": "", "FIU_CTRL_FIFO": str(self._fifo)}
        self.server = make_server(workers=2, sync=True, env=env, expect_errors=True)
        self._sender = Sender(self.server.endpoint)
        assert self.ask("PUT", "bucket") == (200, "")

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        answer = self._sender.ask(method, f"/s3/{path}", body=body)
        return answer.status, answer.code if answer.status >= 400 else ""

    def get(self, key: str) -> bytes:
        answer = self._sender.ask("GET", f"/s3/bucket/{key}")
        assert answer.status == 200
        return answer.body

    @contextmanager
    def failing(self, module: str, call: str, number: int) -> Any:
        """In the processes that run a module."""
        self._tell(module, f"enable name={call},failinfo={number}")
        yield
        self._tell(module, f"disable name={call}")

    def _tell(self, module: str, command: str) -> None:
        pids = [pid for pid in descendants(self.server.pid) if module in Path(f"/proc/{pid}/cmdline").read_text()]
        assert pids
        for pid in pids:
            told = ["fiu-ctrl", "-f", str(self._fifo), "-c", command, str(pid)]
            subprocess.run(told, check=True, timeout=30)


@pytest.fixture
def live(make_server: Callable[..., ServerProcess], tmp_path: Path) -> Live:
    return Live(make_server, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_slow_down_and_the_old_object_stays(live: Live, number: int) -> None:
    """(Python writes with pwritev2, which fiu does not know; and what fails once in the log is tried again.)"""
    body = LARGE
    assert live.ask("PUT", "bucket/key", body) == (200, "")
    with live.failing(WORKER, "posix/io/dir/rename", number):
        assert live.ask("PUT", "bucket/key", body[::-1] + b"new") == (503, "SlowDown")
        assert live.get("key") == body
    assert live.ask("PUT", "bucket/key", b"new" + body) == (200, "")
    assert live.get("key") == b"new" + body


@pytest.mark.parametrize(("module", "body"), [(WORKER, LARGE), (WRITER, SMALL)], ids=["blob", "log"])
def test_a_failed_sync_makes_the_store_read_only(live: Live, module: str, body: bytes) -> None:
    assert live.ask("PUT", "bucket/key", body) == (200, "")
    with live.failing(module, "posix/io/sync/fdatasync", errno.EIO):
        status, code = live.ask("PUT", "bucket/key", body + b"new")
        assert status in (500, 503), code
    assert live.ask("PUT", "bucket/other", SMALL) == (503, "ServiceUnavailable")  # though it would work again
    assert live.get("key") == body
    assert b"Input/output error" in Sender(live.server.endpoint).ask("GET", "/-/ready").body
