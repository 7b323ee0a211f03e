"""A real server: ``twistd -n ais-s3`` in a process of its own, on a port that the kernel picks."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import boto3
import botocore.config

import aisobj
from benchmarks.processes import descendants

#: Hang limits in seconds: far more than anything takes.
START_SECONDS = 30.0
STOP_SECONDS = 60.0

#: Of a server that a test says nothing about. TEST_WORKERS=2 runs every test against several workers.
WORKERS = int(os.environ.get("TEST_WORKERS", "1"))

TWISTD = str(Path(sys.executable).with_name("twistd"))
_HOME = str(Path(aisobj.__file__).parent.parent)
_LISTENING = re.compile(r"listening on (\S+?)(?:/s3)?\n")

#: What must not stand in the log of a server that nobody broke on purpose.
_BAD_LOG = ("Traceback", "Unhandled Error", "Unhandled error in Deferred", "#critical]")

#: What ``make_server(credentials=CREDENTIALS)`` lets in: name -> (access key, secret).
CREDENTIALS = {"alice": ("AKIAALICE", "alice/secret+key"), "bob": ("AKIABOB", "bob-secret")}


def write_credentials(path: Path, users: Mapping[str, tuple[str, str]] = CREDENTIALS) -> Path:
    """A file in the AWS shared-credentials format."""
    parser = configparser.RawConfigParser()
    for name, (access_key, secret) in users.items():
        parser[name] = {"aws_access_key_id": access_key, "aws_secret_access_key": secret}
    with path.open("w") as file:
        parser.write(file)
    path.chmod(0o600)
    return path


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings of servers and clients, so that a developer's own do not change a test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIS_", "AWS_"))}
    for name in ("NOTIFY_SOCKET", "STATE_DIRECTORY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        kept.pop(name, None)
    kept["PYTHONPATH"] = _HOME  # the server is the code that the tests import
    kept["PYTHONUNBUFFERED"] = "1"
    return kept | more


class ServerProcess:
    """One ``twistd -n ais-s3``; ``start`` it, and ``stop`` or ``kill`` it. It can be started again on the same data.

    :param home: a directory of its own: working directory, data, log, access log.
    :param credentials: name -> (access key, secret), None leaves the server open.
    :param options: further ones, e.g. ``"--region", "eu-1"``.
    :param listen: endpoint strings; the first TCP one is :attr:`endpoint`.
    :param expect_errors: tracebacks in the log are what the test wants.
    :param workers: processes that serve.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        credentials: Mapping[str, tuple[str, str]] | None = None,
        listen: tuple[str, ...] = ("tcp:0:interface=127.0.0.1",),
        sync: bool = False,
        data: Path | None = None,
        env: Mapping[str, str] | None = None,
        expect_errors: bool = False,
        workers: int = WORKERS,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.data = data or home / "data"
        self.credentials = credentials
        self.expect_errors = expect_errors
        self.workers = workers
        self.urls: list[str] = []
        self._log = home / "server.log"
        self._access_log = home / "access.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0
        self._env = environment(**(env or {}))
        command = [
            TWISTD,
            "-n",
            "--pidfile=",
            "ais-s3",
            "--data",
            str(self.data),
            "--access-log",
            str(self._access_log),
            "--workers",
            str(workers),
        ]
        for description in listen:
            command += ["--listen", description]
        if credentials is not None:
            command += ["--credentials", str(write_credentials(home / "credentials", credentials))]
        if not sync:
            command.append("--no-sync")
        self.command = [*command, *options]
        self.expect_listeners = len(listen)

    def start(self) -> ServerProcess:
        """Start it and wait until it listens.

        :raises RuntimeError: it ended, or did not listen in time; with its log.
        """
        self.launch()
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while len(self.urls) < self.expect_listeners:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGKILL)
                raise RuntimeError(f"the server did not start:\n{self.log()}")
            time.sleep(0.02)
            self.urls = _LISTENING.findall(self._log.read_text(errors="replace")[self._started_at :])
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        assert self._process is None, "it runs already"
        self._started_at = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = self._spawn(log)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command, cwd=self.home, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return self.urls[0]

    @property
    def s3(self) -> str:
        """The endpoint with the prefix."""
        return f"{self.endpoint}/s3"

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Its log, stdout and stderr, of all its starts."""
        return self._log.read_text(errors="replace")

    def access_log(self) -> str:
        """Complete only after ``stop``, or a second after the request."""
        return self._access_log.read_text()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Its exit status, when it has ended."""
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._end(signal.SIGKILL)
            raise AssertionError(f"the server did not end:\n{self.log()}") from None
        self._process = None
        self.urls = []
        return status

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait()
            self._process = None
            self.urls = []

    def finish(self) -> None:
        """At the end of a test: stop it if it runs, and look at its log."""
        if self._process is not None:
            status = self.stop()
            assert status == 0, self.log()
        if not self.expect_errors:
            bad = [mark for mark in _BAD_LOG if mark in self.log()]
            assert not bad, self.log()

    def pids(self) -> list[int]:
        """Of the server and of all its descendants."""
        return descendants(self.pid)

    def pids_of(self, module: str) -> list[int]:
        """Of its processes that run a module, e.g. ``aisobj.worker``; oldest first."""
        found = []
        for pid in self.pids()[1:]:
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                    found.append(pid)
        return sorted(found)

    @property
    def writer_pid(self) -> int:
        """Of its index writer."""
        (pid,) = self.pids_of("aisobj.storage.index_writer")
        return pid

    def rss(self) -> int:
        """Bytes of RssAnon and RssShmem of the server and its descendants; mapped index pages are not counted."""
        return sum(_resident(pid) for pid in self.pids())

    def boto(self, user: str = "alice", **options: Any) -> Any:
        """A boto3 client; ``options`` as for ``boto3.client``, but ``config`` is a dict of what Config takes."""
        access_key, secret = (self.credentials or {}).get(user, ("anyone", "anything"))
        config = botocore.config.Config(
            **{
                "s3": {"addressing_style": "path"},
                "retries": {"total_max_attempts": 1},
                "proxies": {},
                "max_pool_connections": 64,
                **options.pop("config", {}),
            }
        )
        chosen = {"endpoint_url": self.s3, "region_name": "us-east-1", **options}
        return boto3.session.Session(access_key, secret).client("s3", config=config, **chosen)


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return 0
    return sum(1024 * int(size) for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """Start it; stop it and look at its log at the end."""
    server.start()
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    server.finish()
