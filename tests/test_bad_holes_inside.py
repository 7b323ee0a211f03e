"""Holes that other servers had, continued: what no answer shows. What is compared and imported is looked for in the
source, what is opened in the system calls, what is kept in the servers' memory and descriptors."""

from __future__ import annotations

import ast
import itertools
import re
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from badinputs import HOLES, Rows, World

import aisobj
from reliability import tracing

ROWS = Rows()
SOURCE = Path(aisobj.__file__).parent


def named(number: str) -> Any:
    """The test of a row has its name."""
    ROWS.ids.add(number)
    return pytest.mark.parametrize("hole", [f"{number}: {HOLES[number]}"])


# The source


def imported_names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


NOT_USED = ("twisted.names", "twisted.web.util.redirectTo", "twisted.web.vhost", "twisted.web.http.HTTPChannel")


def sources() -> list[Path]:
    found = sorted(SOURCE.rglob("*.py"))
    assert len(found) > 80
    return found


@named("Twisted CVE-2026-42304")
def test_hole_of_an_import(hole: str) -> None:
    for path in sources():
        assert not [n for n in imported_names(ast.parse(path.read_text())) if n.startswith(NOT_USED)], path
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    assert "Twisted[tls]>=24.7" in project["dependencies"]


_SECRET = re.compile(r"signature|secret|digest|hmac|mac\b|expected", re.IGNORECASE)
#: Comparisons of what is no secret: digests of bodies, which their senders give themselves.
_SECRETS_ARE_IN = (
    "protocol/sigv2.py",
    "protocol/sigv4.py",
    "protocol/presigned.py",
    "protocol/signing.py",
    "protocol/credentials.py",
)


def careless(tree: ast.AST) -> list[int]:
    """Lines that compare something with a secret's name by ``==`` or ``in``, not by ``compare_digest``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn)):
            sides = [node.left, *node.comparators]
            if any(_SECRET.search(ast.unparse(side)) for side in sides) and not any(
                isinstance(side, ast.Constant) or ast.unparse(side).isupper() for side in sides
            ):
                found.append(node.lineno)
    return found


@named("Swift CVE-2014-0006")
def test_hole_of_a_comparison(hole: str) -> None:
    compared = 0
    for name in _SECRETS_ARE_IN:
        text = (SOURCE / name).read_text()
        assert careless(ast.parse(text)) == [], name
        compared += text.count("compare_digest(")
    assert compared >= 3


@pytest.mark.parametrize("line", ["signature == given", "if expected != b: pass", "found = a in signatures"])
def test_a_careless_comparison_would_be_found(line: str) -> None:
    assert careless(ast.parse(line)) == [1]
    assert careless(ast.parse("hmac.compare_digest(signature, given)")) == []


def test_an_import_that_must_not_be_would_be_found() -> None:
    names = imported_names(ast.parse("from twisted.web.util import redirectTo\nimport twisted.names.client"))
    assert len([name for name in names if name.startswith(NOT_USED)]) == 2


# Paths, memory, descriptors

TRAVERSALS = (
    "../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    "//etc/passwd", "....//....//etc/passwd", "..%5c..%5cetc%5cpasswd", "%c0%ae%c0%ae/etc/passwd",
    "/proc/self/environ", "~/.aws/credentials", "../credentials", "..%2fcredentials", "../data/index/data.mdb",
    "k%00/../../etc/passwd", "file:///etc/passwd",
)  # fmt: skip

#: Where a server may look besides its data: for its own code, which Python reads when it is first needed.
CODE = tuple(map(str, (SOURCE.parent / "aisobj", sys.prefix, sys.base_prefix, "/usr/lib", "/lib")))


def traced(w: World, tmp_path: Path, act: Any) -> list[str]:
    """The lines that strace writes of all paths that the servers give to the kernel during ``act``."""
    if why := tracing.missing():
        pytest.skip(f"cannot trace: {why}")
    output = tmp_path / "trace"
    pids = [pid for server in w.servers for pid in server.pids()]
    with tracing.attached(pids, output, "-e", "trace=%file"):
        act()
    return output.read_text(errors="replace").splitlines()


def outside(lines: list[str], roots: list[Path]) -> list[str]:
    """The lines with a path that is not in the data."""
    inside = tuple(f"{root}/" for root in roots)
    return [
        line
        for line in lines
        for path in re.findall(r'"([^"]*)"', line)[:2]
        if ".." in path.split("/") or not path.startswith((*inside, *CODE))
    ]


def traversals(w: World, places: tuple[str, ...]) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for text in TRAVERSALS:
        for place in places:
            target = place.replace("{}", text).replace("{bucket}", w.bucket)
            name, mark, value = target.partition(": ")
            if mark:
                yield "PUT", w.target, [(name, value)]
            else:
                for method in ("PUT", "GET", "DELETE"):
                    yield method, target, []


IN_KEYS = ("/s3/{bucket}/{}", "/{bucket}/{}", "/s3/{}", "/{}", "/v1/objects/{bucket}/{}", "/v1/{}", "/-/{}")
IN_OTHERS = (
    "x-amz-copy-source: {bucket}/{}", "x-amz-copy-source: {}", "/s3/{bucket}/k?uploadId={}&partNumber=1",
    "/s3/{bucket}/kept?versionId={}", "/s3/{bucket}?prefix={}&delimiter=/",
    "/s3/{bucket}?list-type=2&continuation-token={}", "/s3/{bucket}/kept?response-content-type={}",
    "/v1/buckets/{bucket}?archpath={}", "content-type: {}",
)  # fmt: skip


def opens_nothing_outside(world: World, tmp_path: Path, places: tuple[str, ...]) -> None:
    def act() -> None:
        senders = itertools.cycle((world.open, world.signed))
        for sender, (method, target, fields) in zip(senders, traversals(world, places), strict=False):
            answer = sender.ask(method, target, fields, b"x" * 100_000 if method == "PUT" else b"")
            assert answer.status < 500 or answer.status == 501, (method, target, answer)
            assert b"root:" not in answer.body
        assert world.open.ask("PUT", world.target, body=b"x" * 100_000).status == 200

    lines = traced(world, tmp_path, act)
    opened = [line for line in lines if "openat(" in line and "O_CREAT" in line]
    assert opened, "the trace is empty"  # so that it shows something at all
    assert outside(lines, [server.data for server in world.servers]) == []
    for sender in (world.open, world.signed):
        for element in sender.ask("GET", f"{world.path}?encoding-type=url").xml.iter():
            if element.tag.endswith("}Key") and element.text != "kept":
                assert sender.ask("DELETE", f"{world.path}/{element.text}").status == 204
    world.check()


@named("SeaweedFS CVE-2026-54917")
def test_hole_of_a_key(hole: str, world: World, tmp_path: Path) -> None:
    opens_nothing_outside(world, tmp_path, IN_KEYS)


@named("SeaweedFS CVE-2026-55874")
def test_hole_of_a_path_elsewhere(hole: str, world: World, tmp_path: Path) -> None:
    opens_nothing_outside(world, tmp_path, IN_OTHERS)


def test_a_path_that_must_not_be_opened_would_be_found() -> None:
    within = 'openat(AT_FDCWD</srv>, "/data/blobs/tmp/0f", O_WRONLY) = 3'
    found = [
        'openat(AT_FDCWD</srv>, "/etc/passwd", O_RDONLY) = 3',
        'stat("/data/blobs/../x", 0x7) = -1 ENOENT (No such file or directory)',
        'rename("/data/blobs/tmp/0f", "/databases/0f") = 0',
        'openat(AT_FDCWD</srv>, "passwd", O_RDONLY) = -1 ENOENT (No such file or directory)',
    ]
    assert outside([within, *found], [Path("/data")]) == found


@named("MinIO CVE-2018-1000538")
def test_hole_of_a_body_in_memory(hole: str, world: World) -> None:
    """Four clients that each send 80 MiB for a document, in chunks that tell no length. What is kept for each is its
    cap, 8 MiB at most, and once more while it is put together."""
    before = world.memory()
    piece = b"100000\r\n<" + b" " * ((1 << 20) - 1) + b"\r\n"
    digest = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")
    for method, target in (
        ("PUT", "/s3/of-a-giant-document"),
        ("PUT", f"{world.path}?versioning"),
        ("POST", f"{world.path}?delete"),
        ("POST", f"{world.target}?uploadId={'0' * 32}"),
        ("PATCH", f"/v1/buckets/{world.bucket}"),
    ):
        head = world.open.head(method, target, [digest, ("transfer-encoding", "chunked")])
        wires = [world.open.connect() for _ in range(4)]
        for wire in wires:
            wire.send(head)
        for _ in range(80):
            for wire in wires:
                wire.send(piece)
        assert world.memory() - before < 120 << 20, target
        for wire in wires:
            assert wire.answer().status == 400
            assert wire.closed()
            wire.close()
    world.check()


@named("Swift CVE-2016-0738")
def test_hole_of_interrupted_downloads(hole: str, world: World) -> None:
    """A client that leaves in the middle of a download leaves no descriptor behind. (The long form is the soak's.)"""
    server = world.servers[0]
    assert world.open.ask("PUT", world.target, body=b"x" * (8 << 20)).status == 200

    def descriptors() -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.pids())

    def interrupted(count: int) -> None:
        for number in range(count):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(world.open.request("GET", world.target))
                if number % 3:
                    connection.recv(1000 * number % 70_000 + 1)

    interrupted(50)
    before, memory = descriptors(), world.memory()
    interrupted(500)
    for _ in range(20):
        world.open.ask("GET", f"{world.path}/kept")  # by then the last ones are gone
    assert descriptors() <= before + 5
    assert world.memory() - memory < 32 << 20
    assert world.open.ask("DELETE", world.target).status == 204
    world.check()
