"""strace attached to a running server: what its processes ask the kernel for, and how to make the kernel refuse."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reliability.server import Hang, Server

_ATTACH_SECONDS = 20.0
_LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")
_UNFINISHED = " <unfinished ...>"

#: What a write does to files, directories and sockets.
WRITES = (
    "openat", "mkdir", "mkdirat", "pwrite64", "pwritev", "pwritev2", "write", "writev", "sync_file_range", "fdatasync",
    "fsync", "msync", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir",
    "copy_file_range", "ftruncate", "fallocate", "close", "sendto", "sendmsg", "fstatfs", "statfs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One system call. ``began`` and ``ended`` are places in the order of all that was seen."""

    thread: int
    name: str
    text: str  #: arguments and result, as strace writes them
    began: int
    ended: int


@cache
def missing() -> str:
    """Why nothing can be traced here, or ""."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            done = subprocess.run(
                ["strace", "-p", str(process.pid), "-e", "inject=close:signal=SIGKILL:when=1", "-o", "/dev/null"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""  # it waits for the next system call
        finally:
            process.kill()
    return done.stderr.strip() or "strace fails"


@contextlib.contextmanager
def attached(pids: Sequence[int], output: Path, *options: str) -> Iterator[None]:
    """Trace processes, with all their threads, while the block runs. :raises Hang: strace does not begin."""
    command = ["strace", "-f", "-qq", "-y", "-s", "100", "-o", str(output), *options]
    for pid in pids:
        command += ["-p", str(pid)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + _ATTACH_SECONDS
            while not all(_traced(pid) for pid in pids):
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    assert process.stderr is not None
                    raise Hang(f"strace does not attach: {process.stderr.read()}")
                time.sleep(0.002)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            _await_strace(process, pids)


def _await_strace(process: subprocess.Popen[str], pids: Sequence[int]) -> None:
    """Until it has let go. Now and then it waits for ever for what it has killed itself: then it is killed too."""
    deadline = time.monotonic() + _ATTACH_SECONDS
    while process.poll() is None:
        if not any(map(_runs, pids)):
            deadline = min(deadline, time.monotonic() + 0.2)
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.002)


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _traced(pid: int) -> bool:
    """Whether all its threads are."""
    with contextlib.suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    return False


def processes(server: Server) -> list[int]:
    """The server's own, which must be one that serves itself, and its writer's. :raises Hang: it has none."""
    assert server.workers == 1
    deadline = time.monotonic() + _ATTACH_SECONDS
    while not (writers := server.writer_pids()):  # /proc forgets a child now and then, or there is a new one soon
        if time.monotonic() > deadline:
            raise Hang(f"the server has no index writer:\n{server.log()}")
        time.sleep(0.005)
    return [server.pid, *writers]


def read_trace(path: Path) -> list[Event]:
    """What strace has written, in the order in which the calls began."""
    events: list[Event] = []
    open_calls: dict[int, tuple[str, str, int]] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue  # a signal, an exit
        thread, rest = int(match["thread"]), match["rest"]
        if match["resumed"]:
            if thread not in open_calls:
                continue  # it had begun before we came
            name, head, began = open_calls.pop(thread)
            events.append(Event(thread, name, head + rest, began, number))
        elif rest.endswith(_UNFINISHED):
            open_calls[thread] = (match["name"], rest.removesuffix(_UNFINISHED), number)
        else:
            events.append(Event(thread, match["name"], rest, number, number))
    return sorted(events, key=lambda event: event.began)
