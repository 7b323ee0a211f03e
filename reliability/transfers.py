"""Large uploads beside large downloads: what a worker takes of memory is bounded by connections, not by objects. And
uploads that say they will be long and break off, in a memory cgroup for all of the server, page cache included: the
kernel kills nothing, and nothing of them stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from reliability.program import Program
from reliability.server import BUCKET, Forker, Server, check_data, serving
from reliability.wire import MIB, Peak, Wire, open_files

LIMIT = 200_000_000  #: bytes of RssAnon + RssShmem that a worker may take
CGROUP_LIMIT = 400_000_000
GIB = 1 << 30
_CGROUPS = Path("/sys/fs/cgroup/memory")  # version 1
_SOURCES = 4  #: objects that are downloaded


def run(
    forker: Forker, home: Path, *, uploads: int, downloads: int, size: int, workers: int, options: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, object]]:
    """Both at once; each download is compared. The broken promises, and what was measured."""
    home.mkdir(exist_ok=True)
    content = _make_content(home / "content", size)
    digest = _digest(content)
    server = Server(forker, home / "server", *options, workers=workers)
    with serving(server):
        server.start().make_bucket()
        for number in range(min(_SOURCES, downloads)):
            _upload(server, f"source-{number}", content, size)
        began = time.monotonic()
        peak = Peak(server.serving_pids)
        with peak.watched(), ThreadPoolExecutor(uploads + downloads) as pool:
            up = [pool.submit(_upload, server, f"key-{n}", content, size) for n in range(uploads)]
            down = [pool.submit(_download, server, f"source-{n % _SOURCES}") for n in range(downloads)]
            faults = [f"an upload was answered {status}" for each in up if (status := each.result()) != 200]
            faults += ["a download differs" for each in down if each.result() != (size, digest)]
        seconds = time.monotonic() - began
        server.stop()
    if not 0 < peak.bytes < LIMIT:
        faults.append(f"a worker took {peak.bytes / 1e6:.0f} MB")
    return faults, {
        "uploads": uploads,
        "downloads": downloads,
        "MiB each": size // MIB,
        "workers": workers,
        "MB in a worker": round(peak.bytes / 1e6),
        "MB/s": round((uploads + downloads) * size / seconds / 1e6),
    }


def run_in_cgroup(
    forker: Forker,
    home: Path,
    *,
    uploads: int,
    size: int,
    workers: int,
    limit: int = CGROUP_LIMIT,
    options: tuple[str, ...] = (),
) -> tuple[list[str], dict[str, object]]:
    """``uploads`` at once that declare 5 GiB and break off after ``size`` bytes.

    :param limit: of the memory of the whole server, bytes. As root, where there are cgroups of version 1.
    """
    home.mkdir(exist_ok=True)
    content = _make_content(home / "content", size)
    server = Server(forker, home / "server", *options, workers=workers)
    with _cgroup(limit) as group, serving(server):
        # All that they take from their beginning counts, but for what they share with whom they are forked from.
        (group / "cgroup.procs").write_text(str(forker.pid))
        try:
            server.start().make_bucket()
        finally:
            (_CGROUPS / "cgroup.procs").write_text(str(forker.pid))
        before = sorted(server.pids())
        files = sum(map(open_files, before))
        peak = Peak(server.serving_pids)
        began = time.monotonic()
        with peak.watched(), ThreadPoolExecutor(uploads) as pool:
            each = [pool.submit(_break_off, server, f"key-{n}", content, size) for n in range(uploads)]
            faults = [fault for one in each if (fault := one.result())]
        seconds = time.monotonic() - began
        if not server.alive() or sorted(server.pids()) != before:
            faults.append("a process of the server was killed")
        else:
            faults += _settled(server, files)
        most = int((group / "memory.max_usage_in_bytes").read_text())
    faults += check_data(server.data, crashed=True)
    return faults, {
        "broken off": uploads,
        "MiB each": size // MIB,
        "workers": workers,
        "MB in a worker": round(peak.bytes / 1e6),
        "MB in the cgroup": round(most / 1e6),
        "MB/s": round(uploads * size / seconds / 1e6),
    }


def unavailable() -> str:
    """Why there can be no cgroup here, or ""."""
    if os.geteuid():
        return "only root makes cgroups"
    return "" if (_CGROUPS / "cgroup.procs").exists() else "there is no memory cgroup of version 1"


@contextlib.contextmanager
def _cgroup(limit: int) -> Iterator[Path]:
    """One that is empty when it ends."""
    group = Path(tempfile.mkdtemp(prefix="reliability-", dir=_CGROUPS))
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def _settled(server: Server, files: int) -> list[str]:
    """What is left over of uploads that broke off: no open file, no blob."""
    deadline = time.monotonic() + 30
    while True:
        more = sum(map(open_files, server.pids())) - files
        left = [path for path in (server.data / "blobs").rglob("*") if path.is_file() and path.stat().st_size >= MIB]
        if more <= 0 and not left:
            break
        if time.monotonic() > deadline:
            return [f"{more} files are open, {len(left)} are on the disk after the uploads have broken off"]
        time.sleep(0.2)
    status, _ = server.ask("PUT", f"/s3/{BUCKET}/after", b"x" * MIB)
    return [] if status == 200 else [f"a PUT after them was answered {status}"]


def _make_content(path: Path, size: int) -> Path:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for number in range(size // MIB):  # every MiB another, so that none can stand for another
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


def _digest(path: Path) -> str:
    digest = xxhash.xxh64()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def _upload(server: Server, key: str, content: Path, size: int) -> int:
    """The status. The kernel moves the bytes."""
    with Wire(server.port) as wire, content.open("rb") as file:
        wire.begin("PUT", f"/s3/{BUCKET}/{key}", size)
        wire.socket.sendfile(file)
        return wire.answer()[0]


def _download(server: Server, key: str) -> tuple[int, str]:
    """Length and digest of what came."""
    digest = xxhash.xxh64()
    with Wire(server.port) as wire:
        wire.begin("GET", f"/s3/{BUCKET}/{key}")
        status, headers = wire.head()
        if status != 200:
            return status, ""
        return wire.body(int(headers["content-length"]), digest.update), digest.hexdigest()


def _break_off(server: Server, key: str, content: Path, size: int) -> str:
    """What went wrong, or ""."""
    with Wire(server.port) as wire, content.open("rb") as file:
        wire.begin("PUT", f"/s3/{BUCKET}/{key}", 5 * GIB)
        try:
            sent = wire.socket.sendfile(file)
        except OSError as error:
            return f"an upload was cut: {error!r}"
        wire.socket.shutdown(socket.SHUT_WR)
        try:
            status, _ = wire.head()
        except OSError:
            status = 400
        return "" if sent == size and status == 400 else f"an upload that broke off was answered {status}"


def main() -> None:
    program = Program("reliability.transfers", __doc__)
    program.add_argument("--clients", type=int, default=64, help="uploads, and as many downloads")
    program.add_argument("--mib", type=int, default=256, help="size of each")
    program.add_argument("--workers", type=int, default=2)
    with program.running() as (options, home), Forker() as forker:
        size, workers, clients = options.mib * MIB, options.workers, options.clients
        both = run(forker, home / "both", uploads=clients, downloads=clients, size=size, workers=workers)
        program.report(both, "both at once")
        shutil.rmtree(home / "both")
        if why := unavailable():
            raise SystemExit(f"the second half was left out: {why}")
        broken = run_in_cgroup(forker, home / "cgroup", uploads=clients, size=size, workers=workers)
        program.report(broken, "in a memory cgroup")


if __name__ == "__main__":
    main()
