"""The audit log: who changed what, and who was denied; over the network, by its file."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3raw import Sender, User
from server import CREDENTIALS, ServerProcess
from workerkit import one_to_each, until

from aisobj.model import Principal
from aisobj.protocol.operations import OPERATIONS
from aisobj.s3.bucket import BucketResource
from aisobj.s3.object import ObjectResource
from aisobj.web.auditlog import AuditLog

MakeServer = Callable[..., ServerProcess]
Entry = dict[str, Any]

FIELDS = {"time", "id", "user", "access_key", "remote", "method", "operation", "bucket", "key", "source", "status"}
FIELDS |= {"error", "bytes_in", "bytes_out"}
ALICE = User(*CREDENTIALS["alice"])


def parsed(path: Path) -> list[Entry]:
    """Its lines, each of which is whole."""
    data = path.read_bytes()
    assert data.isascii() and (not data or data.endswith(b"\n"))
    entries = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert all(entry.keys() == FIELDS for entry in entries)
    return entries


def audited(server: ServerProcess) -> list[Entry]:
    return parsed(server.home / "audit.log")


@pytest.fixture
def make_audited(make_server: MakeServer, tmp_path: Path) -> MakeServer:
    """A server with credentials and an audit log ``audit.log`` in its home."""

    def make(**arguments: Any) -> ServerProcess:
        home = tmp_path / "audited"
        options = {"home": home, "credentials": CREDENTIALS, **arguments}
        return make_server("--audit-log", str(home / "audit.log"), **options)

    return make


@pytest.mark.parametrize("workers", [1, 2])
def test_each_change_is_a_line_with_who_did_it(make_audited: MakeServer, workers: int) -> None:
    server = make_audited(workers=workers)
    s3 = server.boto()
    s3.create_bucket(Bucket="bucket")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket="bucket", Key="small", Body=b"x" * 100)
    server.boto("bob").copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "small"})
    for end in ("complete", "abort"):
        which = {"Bucket": "bucket", "Key": end}
        which["UploadId"] = s3.create_multipart_upload(**which)["UploadId"]
        etag = s3.upload_part(**which, PartNumber=1, Body=b"y" * 300_000)["ETag"]
        if end == "abort":
            s3.abort_multipart_upload(**which)
        else:
            s3.complete_multipart_upload(**which, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    s3.delete_object(Bucket="bucket", Key="small")
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "copy"}, {"Key": "none"}], "Quiet": True})
    with contextlib.suppress(s3.exceptions.ClientError):
        s3.delete_bucket(Bucket="bucket")
    # What changes nothing
    s3.get_object(Bucket="bucket", Key="complete")["Body"].read()
    s3.head_object(Bucket="bucket", Key="complete")
    s3.list_objects_v2(Bucket="bucket")
    with contextlib.suppress(s3.exceptions.ClientError):
        s3.get_object(Bucket="bucket", Key="nothing")

    found = [(entry["operation"], entry["key"], entry["status"], entry["error"]) for entry in audited(server)]
    found[11:13] = sorted(found[11:13])  # keys of one request are deleted side by side
    assert found == [
        ("CreateBucket", None, 200, None),
        ("PutBucketVersioning", None, 200, None),
        ("PutObject", "small", 200, None),
        ("CopyObject", "copy", 200, None),
        ("CreateMultipartUpload", "complete", 200, None),
        ("UploadPart", "complete", 200, None),
        ("CompleteMultipartUpload", "complete", 200, None),
        ("CreateMultipartUpload", "abort", 200, None),
        ("UploadPart", "abort", 200, None),
        ("AbortMultipartUpload", "abort", 204, None),
        ("DeleteObject", "small", 204, None),
        ("DeleteObjects", "copy", 200, None),
        ("DeleteObjects", "none", 200, None),
        ("DeleteBucket", None, 409, "BucketNotEmpty"),
    ]
    for entry in audited(server):
        user = "bob" if entry["operation"] == "CopyObject" else "alice"
        assert (entry["user"], entry["access_key"]) == (user, CREDENTIALS[user][0])
        assert (entry["remote"], entry["bucket"]) == ("127.0.0.1", "bucket")
        assert entry["time"].endswith("+00:00")
        assert entry["source"] == ("bucket/small" if user == "bob" else None)
    [put] = [entry for entry in audited(server) if entry["operation"] == "PutObject"]
    assert put["bytes_in"] >= 100 and put["method"] == "PUT"
    time.sleep(1.1)  # the access log is written each second
    assert f"id={put['id']} " in server.access_log()


def test_the_native_api_is_audited_too(make_audited: MakeServer) -> None:
    server = make_audited()
    sender = Sender(server.endpoint, ALICE)
    for method, target, body in (
        ("POST", "/v1/buckets/native", b'{"action": "create-bck"}'),
        ("PUT", "/v1/objects/native/key", b"body"),
        ("GET", "/v1/objects/native/key", b""),
        ("DELETE", "/v1/objects/native/key", b""),
        ("DELETE", "/v1/buckets/native", b'{"action": "destroy-bck"}'),
    ):
        assert sender.ask(method, target, body=body).status == 200
    found = [(entry["operation"], entry["key"], entry["user"]) for entry in audited(server)]
    assert found == [
        ("PostV1Buckets", None, "alice"),
        ("PutV1Objects", "key", "alice"),
        ("DeleteV1Objects", "key", "alice"),
        ("DeleteV1Buckets", None, "alice"),
    ]


def test_who_is_denied_is_a_line_with_the_key_that_was_named(make_audited: MakeServer) -> None:
    server = make_audited()
    server.boto().create_bucket(Bucket="bucket")
    wrong = User("AKIAALICE", "not her secret")
    stranger = User("AKIANOBODY", "secret")
    old = time.time() - 3600
    attempts = [
        (Sender(server.endpoint), "GET", "/s3/bucket/key", {}, "GetObject", None, "AccessDenied"),
        (Sender(server.endpoint), "PUT", "/s3/bucket/key", {}, "PutObject", None, "AccessDenied"),
        (Sender(server.endpoint, wrong), "GET", "/s3/bucket?acl", {}, "GetBucketAcl", wrong, "SignatureDoesNotMatch"),
        (
            Sender(server.endpoint, stranger),
            "DELETE",
            "/s3/bucket/key",
            {},
            "DeleteObject",
            stranger,
            "InvalidAccessKeyId",
        ),
        (Sender(server.endpoint, ALICE), "GET", "/s3", {"now": old}, "ListBuckets", ALICE, "RequestTimeTooSkewed"),
        (
            Sender(server.endpoint, wrong),
            "DELETE",
            "/v1/objects/bucket/key",
            {},
            "DeleteV1Objects",
            wrong,
            "SignatureDoesNotMatch",
        ),
        (
            Sender(server.endpoint),
            "GET",
            "/s3/bucket/key?AWSAccessKeyId=AKIAOLD&Signature=x&Expires=1",
            {},
            "GetObject",
            User("AKIAOLD", ""),
            None,
        ),
        (
            Sender(server.endpoint),
            "GET",
            "/s3/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2BB%2F1",
            {},
            "GetObject",
            User("A+B", ""),
            None,
        ),
    ]
    for sender, method, target, options, *_ in attempts:
        assert sender.ask(method, target, **options).status in (400, 401, 403)
    found = audited(server)[1:]
    assert len(found) == len(attempts)
    for entry, (_, method, target, _, operation, named, error) in zip(found, attempts, strict=True):
        assert entry["user"] is None
        assert entry["access_key"] == (named and named.access_key)
        assert (entry["operation"], entry["method"]) == (operation, method)
        assert entry["error"] == error if error else entry["error"] and entry["status"] in (400, 403)
        assert entry["bucket"] == ("bucket" if "bucket" in target else "") or not entry["bucket"]
        assert entry["key"] == ("key" if "/key" in target else None)
    text = (server.home / "audit.log").read_text()
    assert "secret" not in text and "Signature=" not in text


def test_a_web_page_that_writes_to_an_open_server_is_a_line(make_audited: MakeServer) -> None:
    server = make_audited(credentials=None)
    Sender(server.endpoint).ask("PUT", "/s3/bucket")
    assert Sender(server.endpoint).ask("PUT", "/s3/bucket/k", [("origin", "http://evil.example")]).status == 403
    made, denied = audited(server)
    assert (made["user"], made["access_key"], made["error"]) == (None, None, None)
    assert (denied["key"], denied["error"]) == ("k", "AccessDenied")


def test_a_change_is_a_line_although_its_client_has_gone(make_audited: MakeServer) -> None:
    server = make_audited(credentials=None)
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    writer = server.writer_pid
    os.kill(writer, signal.SIGSTOP)  # the commit takes as long as we like
    try:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(sender.request("PUT", "/s3/bucket/key", body=b"body"))
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # by a reset
        until(lambda: " 499 " in server.access_log(), "nobody noticed that the client has gone")
        assert len(audited(server)) == 1
    finally:
        os.kill(writer, signal.SIGCONT)
    until(lambda: len(audited(server)) == 2, "no line")
    assert (audited(server)[1]["key"], audited(server)[1]["status"], audited(server)[1]["error"]) == ("key", 499, None)
    assert sender.ask("GET", "/s3/bucket/key").body == b"body"


def test_a_client_that_leaves_in_the_middle_of_a_body_has_done_nothing(make_audited: MakeServer) -> None:
    server = make_audited(credentials=None)
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    with sender.connect() as wire:
        wire.send(sender.head("PUT", "/s3/bucket/key", length=1000) + b"half")
    until(lambda: len(audited(server)) == 2, "no line")
    assert audited(server)[1]["error"] == "IncompleteBody"


HOSTILE = [
    b"a%0A%7B%22time%22%3A1%7D",  # a newline and a line of its own
    b"%22%2C%22error%22%3Anull%2C%22x%22%3A%22",
    b"%5C%22",
    b"%FF%FE",
    b"%E2%80%A8%E2%80%AE%7F",  # line separator, right-to-left override, delete
    b"%00",
    b"%F0%9F%90%8D",
    b"a" * 4000,
]


def test_no_key_forges_a_line(make_audited: MakeServer) -> None:
    server = make_audited(credentials=None)
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    for number, key in enumerate(HOSTILE, 1):
        sender.send(
            b"PUT /s3/bucket/" + key + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
            b'x-amz-request-id: forged\r\nUser-Agent: {"forged":1}\r\n\r\n'
        )
        assert len(audited(server)) == number + 1
    keys = [entry["key"] for entry in audited(server)[1:]]
    assert keys[:5] == ['a\n{"time":1}', '","error":null,"x":"', '\\"', "\\xff\\xfe", "\u2028\u202e\x7f"]
    assert keys[6] == "🐍" and len(keys[7]) == 1024
    assert "forged" not in (server.home / "audit.log").read_text()


def test_rotation_under_load_loses_no_line_and_cuts_none(make_audited: MakeServer) -> None:
    """Two workers, one file: each acknowledged write is in just one of the files."""
    server = make_audited(credentials=None, workers=2)
    connections = one_to_each(server)
    connections[0].ask("PUT", "/s3/bucket")
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(number: int) -> None:
        for turn in range(100_000):
            if stop.is_set():
                return
            key = f"{'long' * 200}-{number}-{turn}"
            if connections[number].ask("PUT", f"/s3/bucket/{key}", b"x").status == 200:
                acknowledged.append(key)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    path = server.home / "audit.log"
    try:
        for rotation in range(3):
            time.sleep(0.2)
            path.rename(path.with_suffix(f".{rotation}"))
            server.signal(signal.SIGHUP)
            until(path.exists, "the log is not opened again")
    finally:
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
    workers = {entry["id"][:8] for entry in audited(server)}
    found = [entry["key"] for each in server.home.glob("audit.*") for entry in parsed(each) if entry["key"]]
    assert sorted(found) == sorted(acknowledged)
    assert len(workers) == 2, "not all workers have opened it again"


def test_what_was_acknowledged_is_a_line_when_the_worker_is_killed(make_audited: MakeServer) -> None:
    server = make_audited(credentials=None, workers=2, expect_errors=True)
    connections = one_to_each(server)
    connections[0].ask("PUT", "/s3/bucket")
    acknowledged: list[str] = []

    def write(number: int) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            for turn in range(100_000):
                assert connections[number].ask("PUT", f"/s3/bucket/{number}-{turn}", b"x").status == 200
                acknowledged.append(f"{number}-{turn}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for pid in server.pids_of("aisobj.worker"):
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    found = {entry["key"] for entry in audited(server)}
    assert len(acknowledged) > 10
    assert not set(acknowledged) - found


def test_there_is_none_unless_it_is_asked_for(make_server: MakeServer) -> None:
    server = make_server()
    Sender(server.endpoint).ask("PUT", "/s3/bucket")
    server.stop()
    assert sorted(path.name for path in server.home.iterdir()) == ["access.log", "data", "server.log"]
    assert "CreateBucket" not in server.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_opened_is_refused_at_the_start(make_server: MakeServer, workers: int) -> None:
    server = make_server("--audit-log", "/nowhere/audit.log", start=False, workers=workers)
    server.launch()
    assert server.wait() == 1
    assert server.log() == "ais-s3: --audit-log /nowhere/audit.log: No such file or directory\n"


def test_no_change_is_answered_before_its_handler_is_over() -> None:
    """The line follows the coroutine or the Deferred; a handler that answers at once would have none."""
    for resource in (BucketResource, ObjectResource):
        for name, handler in resource.handlers.items():
            if OPERATIONS[name].writes and not inspect.iscoroutinefunction(handler):
                returned = inspect.get_annotations(handler)["return"].split(" | ")  # which mypy sees to
                assert "None" not in returned, name


class _Request:
    """What a line is made of."""

    request_id, principal_name, peer, method, operation = "0", "alice", "::1", b"PUT", "PutObject"
    bucket, key, status, bytes_in, bytes_out, query, outcomes = "b", b"k", 200, 0, 0, b"", None

    def header(self, name: bytes) -> None:
        return None


def test_a_full_disk_stops_no_request_and_the_next_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(str(path), time.time, {"alice": Principal("alice", "AK").access_key})
    log.add(_Request(), None)  # type: ignore[arg-type]
    real = os.write
    written = iter([lambda fd, data: real(fd, data[:7]), lambda fd, data: os.write(-1, b"")])

    def write(fd: int, data: bytes) -> int:
        return next(written, real)(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aisobj.web.logfile.os.write", write)
        log.add(_Request(), None)  # type: ignore[arg-type]
    log.add(_Request(), None)  # type: ignore[arg-type]
    first, half, second, end = path.read_bytes().split(b"\n")
    assert (len(half), end) == (7, b"")
    assert json.loads(first).keys() == json.loads(second).keys() == FIELDS
