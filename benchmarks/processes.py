"""Processes under measurement: their CPU and memory with all their descendants, their start and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The process and all its descendants that are alive, itself first."""
    found = [pid]
    for parent in found:  # grows as it is walked
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, those that have ended and were waited for included."""
    total = 0.0
    for each in descendants(pid):
        with contextlib.suppress(OSError):
            # Its CPU clock, as clock_getcpuclockid(3) names it: nanoseconds, where stat has ticks of 10 ms.
            total += time.clock_gettime((~each << 3) | 2)
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[13:15])) / _TICK
    return total


def memory(pid: int) -> dict[str, int]:
    """RssAnon + RssShmem in bytes of each process of the tree, by what it runs: ``python -m module``, or its name."""
    found: dict[str, int] = {}
    for number, each in enumerate(descendants(pid)):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{each}/status").read_text()
            words = Path(f"/proc/{each}/cmdline").read_bytes().decode(errors="replace").split("\0")
            name = words[words.index("-m") + 1].rpartition(".")[2] if "-m" in words else Path(words[0]).name
            used = sum(int(kb) * 1024 for kb in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status))
            found[f"{name} {number}"] = used
    return found


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, each another one, as none is let go before all are there."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Process:
    """A program in a session of its own, so that its end takes its descendants along.

    :param command: the program and its arguments.
    :param log: where its output goes; read for what went wrong.
    :raises OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.started = time.monotonic()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def wait_for(self, ready: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait until ``ready()``. Seconds since the start. Raises RuntimeError, with the log, where it never is."""
        while not ready():
            if self._popen.poll() is not None or time.monotonic() - self.started > seconds:
                self.stop()
                raise RuntimeError(f"it did not start: ...{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)
        return time.monotonic() - self.started

    def stop(self, seconds: float = 40.0) -> None:
        """SIGTERM, and SIGKILL to what is left of its session after ``seconds``."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def answers(port: int) -> bool:
    """Whether somebody listens on the port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(process: Process) -> Iterator[Process]:
    """Stop it at the end."""
    try:
        yield process
    finally:
        process.stop()
