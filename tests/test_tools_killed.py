"""``restore`` and ``rebuild-index``, killed as they are about to change any name: one index or the other is there,
whole, and no blob is lost by that, nor by the server's next start."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fsck import check_directory
from server import environment
from tools import tool, tool_json

from reliability import tracing
from reliability.server import BUCKET, Forker, Server, serving

pytestmark = pytest.mark.skipif(bool(tracing.missing()), reason=f"cannot trace: {tracing.missing()}")

NAMES = ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir")
NO_EXCHANGE = ("-e", "inject=renameat2:error=EINVAL")
OLD, NEW = os.urandom(100_000), os.urandom(110_000)
#: What the index holds before, and of what is put after the backup, what each command makes of it.
BEFORE = {"old": OLD, "small": b"small", "new": NEW, "copied": OLD, "late": b"late"}
AFTER = {"restore": {"old", "small"}, "rebuild-index": {"old", "small", "new"}}


@dataclass(frozen=True)
class Site:
    """A data directory whose backup is older than its index, and a server for copies of it."""

    data: Path
    forker: Forker

    def copy(self, to: Path) -> Path:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.data, to, ignore=shutil.ignore_patterns("ballast", "lock"))
        return to


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    with Forker() as forker, serving(Server(forker, home).start()) as server:
        server.make_bucket()
        for key in ("old", "small"):
            assert server.ask("PUT", f"/s3/{BUCKET}/{key}", BEFORE[key])[0] == 200
        assert tool(server.data, "backup")[0] == 0
        for key in ("new", "late"):
            assert server.ask("PUT", f"/s3/{BUCKET}/{key}", BEFORE[key])[0] == 200
        copied = server.ask("PUT", f"/s3/{BUCKET}/copied", **{"x-amz-copy-source": f"{BUCKET}/old"})
        assert copied[0] == 200
        server.stop()
        yield Site(server.data, forker)


def traced(data: Path, command: str, *options: str) -> int:
    """Run a tool under strace; its exit status."""
    code = [sys.executable, "-m", "aisobj.tools", "--data", str(data), command, "--force"]
    started = [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-o",
        str(data / "trace"),
        "-e",
        f"trace={','.join(NAMES)}",
        *options,
        *code,
    ]
    done = subprocess.run(
        started, env=environment(PYTHONDONTWRITEBYTECODE="1"), capture_output=True, timeout=120, check=False
    )
    return done.returncode


def points(data: Path, command: str, *options: str) -> list[tuple[str, int]]:
    """Each call that changes a name in the data directory: which, and which one of these."""
    assert traced(data, command, *options) in (0, 1)
    counts: Counter[str] = Counter()
    found = []
    for event in tracing.read_trace(data / "trace"):
        counts[event.name] += 1
        if str(data) in event.text:
            found.append((event.name, counts[event.name]))
    return found


def blobs(data: Path) -> set[str]:
    return {path.name for path in (data / "blobs").rglob("*") if re.fullmatch("[0-9a-f]{32}", path.name)}


def served(server: Server) -> dict[str, bytes]:
    status, listed = server.ask("GET", f"/s3/{BUCKET}?list-type=2")
    assert status == 200
    found = {}
    for key in re.findall(r"<Key>(\w+)</Key>", listed.decode()):
        status, found[key] = server.ask("GET", f"/s3/{BUCKET}/{key}")
        assert status == 200, key
    return found


@pytest.mark.parametrize("command", ["restore", "rebuild-index"])
def test_killed_at_any_name_there_is_one_index_and_no_blob_is_lost(site: Site, tmp_path: Path, command: str) -> None:
    data = tmp_path / "data"
    server = Server(site.forker, tmp_path / "server", data=data, sync=False)
    seen = set()
    found = points(site.copy(data), command)
    assert {"rename", "renameat2"} <= {name for name, _ in found}
    for name, number in found:
        assert traced(site.copy(data), command, "-e", f"inject={name}:signal=SIGKILL:when={number}") == -signal.SIGKILL
        faults = check_directory(data)
        assert all(fault.startswith("blob ") and fault.endswith(" has no owner") for fault in faults), (name, number)
        with serving(server.start()):
            objects = served(server)
            server.stop()
        assert set(objects) in (set(BEFORE), AFTER[command]), (name, number)
        assert objects == {key: BEFORE[key] for key in objects}, (name, number)
        assert blobs(data) >= blobs(site.data), (name, number)
        seen.add((len(objects), bool(faults)))

        status, report = tool_json(data, command, "--force")
        assert status in (0, 1) and report["replaced"], (name, number)
        assert check_directory(data) == [], (name, number)
        assert blobs(data) >= blobs(site.data), (name, number)
    assert seen >= {(len(BEFORE), False), (len(AFTER[command]), True)}


def test_without_an_exchange_a_kill_may_leave_no_index_which_everybody_notices(site: Site, tmp_path: Path) -> None:
    data = tmp_path / "data"
    seen = []
    for name, number in points(site.copy(data), "restore", *NO_EXCHANGE):
        if name != "rename":
            continue
        kill = ("-e", f"inject=rename:signal=SIGKILL:when={number}")
        assert traced(site.copy(data), "restore", *NO_EXCHANGE, *kill) == -signal.SIGKILL
        seen.append((data / "index").exists())
        if not seen[-1]:
            status, text = tool(data, "fsck")
            assert status == 2 and "restore or rebuild-index" in text and text.count("\n") == 1
            assert len(list(data.glob("index.replaced-*/data.mdb"))) == 2  # nothing is lost of either
            assert tool(data, "restore")[0] == 1
        assert all(" has no owner" in fault for fault in check_directory(data)), number
    assert seen.count(False) == 1
