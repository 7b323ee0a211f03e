"""Plain writes take a short way past the resource tree, and nobody can tell from the answer or from what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from plainkit import CLIENTS, LONG_WAY, Presigner, channel, request, told
from s3raw import Wire
from server import CREDENTIALS, ServerProcess
from storekit import INLINE, Rig, open_rig
from twisted.internet.defer import Deferred, fail

from aisobj.errors import CommitUnknown, StoreFull, StoreReadOnly
from aisobj.model import VersioningStatus
from aisobj.s3 import plain_writes
from aisobj.web.request import Ended

SIZES = [0, 1, 5000, 60_000, 64 << 10, (64 << 10) + 1]  # of the last two a read has not all


def lengths(lines: str, size: int) -> list[str]:
    """Where clients have a length: most at the end, Go after its name. (wrk before the Host: below.)"""
    at_end = lines + f"Content-Length: {size}\r\n"
    if "User-Agent" not in lines:
        return [at_end]
    name, rest = lines.split("\r\n", 1)
    return [at_end, f"{name}\r\nContent-Length: {size}\r\n{rest}"] if name.startswith("User-Agent") else [at_end]


def stored(s3: Any, bucket: str, key: str) -> tuple[object, ...]:
    found = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    shown = (found["ContentLength"], found["ETag"], found["ContentType"], found["Metadata"], found.get("ChecksumType"))
    return found["Body"].read(), *shown


@pytest.mark.parametrize("size", SIZES)
def test_both_ways_store_the_same(presigner: Presigner, signed_s3: Any, signed_bucket: str, size: int) -> None:
    url = presigner.url("PUT", signed_bucket, "a/b~c.d_e-f")
    body = b"0123456789" * (size // 10) + b"x" * (size % 10)
    expected = told(presigner.ask("PUT", url, f"{LONG_WAY}Content-Length: {size}\r\n", body))
    assert expected[0] == 200
    expected_object = stored(signed_s3, signed_bucket, "a/b~c.d_e-f")
    for client in CLIENTS:
        for lines in lengths(client, size):
            assert plain_writes._match(request("PUT", url, lines))
            presigner.ask("PUT", url, f"{LONG_WAY}Content-Length: 5\r\n", b"other")
            assert told(presigner.ask("PUT", url, lines, body)) == expected
            assert stored(signed_s3, signed_bucket, "a/b~c.d_e-f") == expected_object


def test_both_ways_delete(presigner: Presigner, signed_s3: Any, signed_bucket: str) -> None:
    url = presigner.url("DELETE", signed_bucket, "k")
    missing = told(presigner.ask("DELETE", url, LONG_WAY))
    assert missing[0] == 204
    for lines in [LONG_WAY, *CLIENTS]:
        signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"x")
        assert plain_writes._match(request("DELETE", url, lines)) or lines == LONG_WAY
        assert told(presigner.ask("DELETE", url, lines)) == missing
        assert signed_s3.list_objects_v2(Bucket=signed_bucket)["KeyCount"] == 0
        assert told(presigner.ask("DELETE", url, lines)) == missing


def test_what_is_not_signed_by_a_user_is_not_done(presigner: Presigner, signed_s3: Any, signed_bucket: str) -> None:
    for method, lines, body in (("PUT", "Content-Length: 1\r\n", b"x"), ("DELETE", "", b"")):
        signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"first")
        url = presigner.url(method, signed_bucket, "k")
        other = presigner.url("DELETE" if method == "PUT" else "PUT", signed_bucket, "k")
        for wrong in (
            url.replace("X-Amz-Signature=", "X-Amz-Signature=0"),
            url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601"),
            url.replace("/k?", "/kk?"),
            url.partition("?")[0],
            other,
        ):
            assert presigner.ask(method, wrong, lines, body).status == 403
        assert signed_s3.get_object(Bucket=signed_bucket, Key="k")["Body"].read() == b"first"
    assert signed_s3.list_objects_v2(Bucket=signed_bucket)["KeyCount"] == 1


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_both_ways_show_the_same_of_a_bucket_with_versions(
    presigner: Presigner, signed_s3: Any, signed_bucket: str, status: str
) -> None:
    signed_s3.put_bucket_versioning(Bucket=signed_bucket, VersioningConfiguration={"Status": status})
    url = presigner.url("PUT", signed_bucket, "k")
    answers = [presigner.ask("PUT", url, lines + "Content-Length: 1\r\n", b"x") for lines in (LONG_WAY, "")]
    assert answers[0].headers.keys() == answers[1].headers.keys()
    assert ("x-amz-version-id" in answers[1].headers) is (status == "Enabled")
    if status == "Enabled":
        assert (
            answers[1].headers["x-amz-version-id"] == signed_s3.head_object(Bucket=signed_bucket, Key="k")["VersionId"]
        )


def test_writers_of_one_key_meet(presigner: Presigner, signed_s3: Any, signed_server: Any, signed_bucket: str) -> None:
    """All but one of those whose commits meet are conflicts, which are tried again."""
    url = presigner.url("PUT", signed_bucket, "k")
    bodies = [b"%04d" % number for number in range(40)]
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(signed_server.endpoint)) for _ in bodies]
        for wire, body in zip(wires, bodies, strict=True):
            wire.send(request("PUT", url, "Content-Length: 4\r\n") + body)
        assert [wire.answer().status for wire in wires] == [200] * len(wires)
    assert signed_s3.get_object(Bucket=signed_bucket, Key="k")["Body"].read() in bodies


def test_they_are_in_the_audit_log(make_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = make_server("--audit-log", str(tmp_path / "audit.log"), credentials=CREDENTIALS, workers=2)
    s3 = server.boto(config={"signature_version": "s3v4", "request_checksum_calculation": "when_required"})
    s3.create_bucket(Bucket="bucket")
    presigner = Presigner(server, s3)
    presigner.ask("PUT", presigner.url("PUT", "bucket", "k"), "Content-Length: 5\r\n", b"hello")
    presigner.ask("DELETE", presigner.url("DELETE", "bucket", "k"))
    entries = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()][1:]
    shown = ("user", "operation", "bucket", "key", "status", "error", "bytes_in")
    assert [[entry[name] for name in shown] for entry in entries] == [
        ["alice", "PutObject", "bucket", "k", 200, None, 5],
        ["alice", "DeleteObject", "bucket", "k", 204, None, 0],
    ]
    assert {entry["access_key"] for entry in entries} == {CREDENTIALS["alice"][0]}


HOST = "Host: 127.0.0.1:8080\r\n"


def put(lines: str, body: bytes, key: str = "k") -> bytes:
    return f"PUT /s3/bck/{key} HTTP/1.1\r\n{lines}\r\n".encode() + body


PUT = put(f"{HOST}Content-Length: 5\r\n", b"hello")
DELETE = f"DELETE /s3/bck/k HTTP/1.1\r\n{HOST}\r\n".encode()


@pytest_twisted.ensureDeferred
async def test_the_tree_is_not_asked(tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await _ask_without_a_tree(rig)


async def _ask_without_a_tree(rig: Rig) -> None:
    await rig.bucket()
    with channel(rig) as (made, transport, tree):
        for _ in range(3):
            made.dataReceived(PUT)
            made.dataReceived(put(f"Content-Length: 5\r\n{HOST}", b"hello"))
            made.dataReceived(DELETE)
        assert transport.value().count(b"HTTP/1.1 200 OK") == 6
        assert transport.value().count(b"HTTP/1.1 204 No Content") == 3
        assert tree.asked == 0


#: And everything else is the tree's.
OTHERS = {
    "a body that comes later": [PUT[:-5], b"hello"],
    "half a body": [PUT[:-1], b"o"],
    "two requests": [PUT + PUT],
    "no length": [put(HOST, b"")],
    "two lengths": [put(f"Content-Length: 5\r\n{HOST}Content-Length: 5\r\n", b"hello")],
    "a length with a zero before it": [put(f"{HOST}Content-Length: 05\r\n", b"hello")],
    "a long body": [put(f"{HOST}Content-Length: {INLINE + 1}\r\n", b"x" * (INLINE + 1))],
    "a trailer": [put(f"{HOST}x-amz-trailer: x-amz-checksum-crc32\r\nContent-Length: 5\r\n", b"hello")],
    "metadata": [put(f"{HOST}x-amz-meta-a: b\r\nContent-Length: 5\r\n", b"hello")],
    "a condition": [put(f"{HOST}If-None-Match: *\r\nContent-Length: 5\r\n", b"hello")],
    "chunks": [put(f"{HOST}Transfer-Encoding: chunked\r\n", b"0\r\n\r\n")],
    "who waits to send nothing": [put(f"{HOST}Content-Length: 0\r\nExpect: 100-continue\r\n", b"")],
    "a copy": [put(f"{HOST}x-amz-copy-source: bck/k\r\nContent-Length: 0\r\n", b"")],
    "another site's page": [put(f"{HOST}Origin: http://evil.example\r\nContent-Length: 5\r\n", b"hello")],
    "a name that was rebound": [put("Host: evil.example\r\nContent-Length: 5\r\n", b"hello")],
    "a key that is escaped": [put(f"{HOST}Content-Length: 5\r\n", b"hello", "%6B")],
    "a sub-resource": [put(f"{HOST}Content-Length: 5\r\n", b"hello", "k?tagging")],
    "no key": [put(f"{HOST}Content-Length: 5\r\n", b"hello", "")],
    "another bucket": [PUT.replace(b"bck", b"bcks")],
    "a DELETE of nothing": [DELETE.replace(b"/k", b"/nothing")],
    "a DELETE with a body": [DELETE[:-2] + b"Content-Length: 1\r\n\r\nx"],
    "a POST": [PUT.replace(b"PUT", b"POST")],
}


@pytest.mark.parametrize("pieces", OTHERS.values(), ids=list(OTHERS))
@pytest_twisted.ensureDeferred
async def test_what_is_the_trees(pieces: list[bytes], tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"body")
        with channel(rig) as (made, transport, tree):
            for piece in pieces:
                made.dataReceived(piece)
            assert tree.asked or b" 400 Bad Request" in transport.value()
        assert bytes(rig.store.objects.fetch("bck", b"k").inline or b"") == b"body"


@pytest_twisted.ensureDeferred
async def test_a_write_that_cannot_begin_is_the_trees_to_tell(tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        rig.blobs.wrapped.full = True
        with channel(rig) as (made, _, tree):
            made.dataReceived(PUT)
            assert tree.asked == 1


@pytest.mark.parametrize(
    ("error", "code", "more"),
    [
        (StoreFull("no pages"), b"SlowDown", b"Retry-After: 1"),
        (StoreReadOnly("a sync failed"), b"ServiceUnavailable", b"HTTP/1.1 503 "),
        (CommitUnknown("the writer died"), b"InternalError", b"HTTP/1.1 500 "),
    ],
    ids=["full", "read-only", "unknown"],
)
@pytest.mark.parametrize("data", [PUT, DELETE], ids=["PUT", "DELETE"])
@pytest_twisted.ensureDeferred
async def test_how_a_commit_fails(
    data: bytes, error: Exception, code: bytes, more: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"body")
        ended: list[Ended] = []
        with channel(rig) as (made, transport, tree), monkeypatch.context() as patch:
            made.site.observers.append(ended.extend)
            patch.setattr(rig.index, "commit", lambda *_: fail(error))
            made.dataReceived(data)
            sent = transport.value()
            assert b"<Code>%b</Code>" % code in sent and more in sent and b"<Resource>/s3/bck/k</Resource>" in sent
            assert tree.asked == 0
            made.site.flush()
        operation = "PutObject" if data is PUT else "DeleteObject"
        assert [(request.operation, request.error_code, request.status) for request, _, _ in ended] == [
            (operation, code.decode(), int(sent.split(b" ")[1]))
        ]
        assert bytes(rig.store.objects.fetch("bck", b"k").inline or b"") == b"body"


@pytest.mark.parametrize("status", list(VersioningStatus))
@pytest_twisted.ensureDeferred
async def test_a_client_that_left_is_not_waited_for(
    status: VersioningStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its write is done all the same."""
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket(versioning_status=status)
        waiting: Deferred[None] = Deferred()
        ended: list[Ended] = []
        commit = rig.index.commit
        monkeypatch.setattr(rig.index, "commit", lambda *given: waiting.addCallback(lambda _: commit(*given)))
        with channel(rig) as (made, transport, _):
            made.site.observers.append(ended.extend)
            made.dataReceived(PUT)
            assert not transport.value()
        made.site.flush()
        assert [(request.status, request.body.received) for request, _, _ in ended] == [(499, 5)]
        waiting.callback(None)
        assert bytes(rig.store.objects.fetch("bck", b"k").inline or b"") == b"hello"
