"""S3 on one connection: pipelining, keep-alive after errors, clients that do not read, the access log."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from s3raw import Sender, user_of

MIB = 1 << 20


def test_pipelined_requests_are_answered_in_order(raw: Sender, bucket: str) -> None:
    """Writes and reads: each sees what came before it."""
    target = f"/s3/{bucket}/k"
    big = os.urandom(300_000)
    with raw.connect() as wire:
        wire.send(
            raw.request("PUT", target, body=b"one")
            + raw.request("GET", target)
            + raw.request("PUT", target, body=big)
            + raw.request("HEAD", target)
            + raw.request("GET", target)
            + raw.request("DELETE", target)
            + raw.request("GET", target)
            + raw.request("GET", f"/s3/{bucket}")
        )
        assert wire.answer().status == 200
        assert wire.answer().body == b"one"
        assert wire.answer().status == 200
        assert wire.answer("HEAD").headers["content-length"] == str(len(big))
        assert wire.answer().body == big
        assert wire.answer("DELETE").status == 204
        assert wire.answer().code == "NoSuchKey"
        assert wire.answer().element("KeyCount") is None


def test_an_error_does_not_cost_the_connection(raw: Sender, bucket: str) -> None:
    """Neither one without a body nor one whose small body was never read; a large one closes."""
    with raw.connect() as wire:
        for method, target, body in (
            ("GET", f"/s3/{bucket}/missing", b""),
            ("PUT", f"/s3/{bucket}/k?acl", b"x" * 1000),
            ("PUT", "/s3/no-such-bucket/k", b"x" * 1000),
            ("POST", f"/s3/{bucket}?delete", b"<"),
            ("PUT", "/s3/BAD", b""),
        ):
            wire.send(raw.request(method, target, body=body))
            answer = wire.answer()
            assert answer.status >= 400
            assert "connection" not in answer.headers, target
        wire.send(raw.request("PUT", "/s3/no-such-bucket/k", body=b"x" * 200_000))
        assert wire.answer().headers["connection"] == "close"
        assert wire.closed()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing(raw: Sender, server: Any, bucket: str) -> None:
    temporary = server.data / "blobs" / "tmp"
    body = bytes(3 * MIB)  # of which some is on the disk when the client leaves
    for headers, sent in (([], body), ([("Transfer-Encoding", "chunked")], b"a00000\r\n" + body)):
        with raw.connect() as wire:
            wire.send(raw.head("PUT", f"/s3/{bucket}/k", headers, length=None if headers else 10 * MIB) + sent)
            wait_until(lambda: bool(list(temporary.iterdir())))
        wait_until(lambda: not list(temporary.iterdir()))
    assert raw.ask("GET", f"/s3/{bucket}/k").status == 404


def test_clients_that_do_not_read_do_not_grow_the_server(raw: Sender, server: Any, s3: Any, bucket: str) -> None:
    size = 64 * MIB
    s3.put_object(Bucket=bucket, Key="big", Body=bytes(size))
    before = server.rss()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(raw.connect()) for _ in range(8)]
        for wire in idle:
            wire.send(raw.request("GET", f"/s3/{bucket}/big"))
        time.sleep(0.5)  # what could be sent into the sockets has been sent
        assert server.rss() - before < 24 * MIB
        assert idle[0].answer().body == bytes(size)  # whoever reads gets it
    assert raw.ask("GET", f"/s3/{bucket}").status == 200


def test_clients_that_send_faster_than_the_disk_do_not_grow_the_server(raw: Sender, server: Any, bucket: str) -> None:
    before = server.rss()
    peak = 0
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(raw.connect()) for _ in range(8)]
        for number, wire in enumerate(wires):
            wire.send(raw.head("PUT", f"/s3/{bucket}/{number}", length=16 * MIB))
        for _ in range(16):
            for wire in wires:
                wire.send(bytes(MIB))
            peak = max(peak, server.rss())
        assert {wire.answer().status for wire in wires} == {200}
    assert peak - before < 64 * MIB


def test_a_download_goes_on_with_what_it_began_whatever_happens_to_the_key(raw: Sender, s3: Any, bucket: str) -> None:
    body = os.urandom(16 * MIB)
    for change in (
        lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"new" * 100_000),
        lambda: s3.delete_object(Bucket=bucket, Key="k"),
    ):
        s3.put_object(Bucket=bucket, Key="k", Body=body)
        with raw.connect() as wire:
            wire.send(raw.request("GET", f"/s3/{bucket}/k"))
            time.sleep(0.1)  # the sockets are full long before all of it was read from the disk
            change()
            answer = wire.answer()
        assert (answer.status, answer.body == body) == (200, True)


def lines_for(server: Any, request_id: str) -> list[str]:
    """The access log's; it is written every second."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [line for line in server.access_log().splitlines() if f"id={request_id} " in line]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing about {request_id}")


LINE = re.compile(
    r'127\.0\.0\.1 - (?P<user>\S+) \[[^\]]+\] "(?P<request>[^"]*)" (?P<status>\d+) '
    r'(?P<sent>\d+) "[^"]*" "(?P<agent>[^"]*)" '
    r"operation=(?P<operation>\S+) bucket=(?P<bucket>\S+) key=(?P<key>\S+) id=\S+ in=(?P<received>\d+) "
    r"out=(?P<out>\d+) seconds=(?P<seconds>\d+\.\d{6}) error=(?P<error>\S+)"
)


def test_the_access_log_has_one_line_for_each_request(signed: Sender, signed_server: Any, signed_bucket: str) -> None:
    body = b"x" * 50_000
    target = f"/s3/{signed_bucket}/dir/{quote('ü 1')}"
    asked = [
        ("PUT", target, body, "PutObject", 200, "-"),
        ("GET", target, b"", "GetObject", 200, "-"),
        ("HEAD", target, b"", "HeadObject", 200, "-"),
        ("GET", f"{target}?acl", b"", "GetObjectAcl", 501, "NotImplemented"),
        ("POST", f"{target}?uploads", b"", "CreateMultipartUpload", 200, "-"),
        ("DELETE", target, b"", "DeleteObject", 204, "-"),
        ("GET", target, b"", "GetObject", 404, "NoSuchKey"),
        ("GET", f"/s3/{signed_bucket}?list-type=2", b"", "ListObjectsV2", 200, "-"),
        ("GET", "/s3", b"", "ListBuckets", 200, "-"),
    ]
    answers = [signed.ask(method, path, body=sent) for method, path, sent, *_ in asked]
    for answer, (method, path, sent, operation, status, error) in zip(answers, asked, strict=True):
        (line,) = lines_for(signed_server, answer.headers["x-amz-request-id"])
        found = LINE.fullmatch(line)
        assert found, line
        assert found["user"] == "alice"
        assert (found["operation"], int(found["status"]), found["error"]) == (operation, status, error)
        assert found["request"] == f"{method} {path} HTTP/1.1"
        assert found["bucket"] == (signed_bucket if signed_bucket in path else "-")
        assert found["key"] == (f"dir/{quote('ü 1')}" if "/dir/" in path else "-")
        assert (int(found["received"]), int(found["out"])) == (len(sent), len(answer.body))


def test_the_access_log_has_strangers_and_nonsense_but_no_secrets(
    anonymous: Sender, signed: Sender, signed_server: Any, signed_bucket: str
) -> None:
    answer = anonymous.ask("GET", f"/s3/{signed_bucket}/k", [("user-agent", 'a" "-" operation=x \\')])
    (line,) = lines_for(signed_server, answer.headers["x-amz-request-id"])
    found = LINE.fullmatch(line)
    assert found, line
    assert (found["user"], found["status"], found["error"]) == ("-", "403", "AccessDenied")
    assert found["agent"] == r"a\x22 \x22-\x22 operation=x \x5c"
    refused = anonymous.send(b"GET / HTTP/9.9\r\n\r\n")
    (line,) = lines_for(signed_server, refused.headers["x-amz-request-id"])
    assert "error=BadRequest" in line

    url = signed_server.boto(config={"signature_version": "s3v4"}).generate_presigned_url(
        "get_object", {"Bucket": signed_bucket, "Key": "k"}
    )
    target = url[len(signed_server.endpoint) :]
    answer = anonymous.ask("GET", target)
    (line,) = lines_for(signed_server, answer.headers["x-amz-request-id"])
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", target)
    assert signature is not None
    user = user_of(signed_server)
    assert user is not None
    for text in (signature[1], user.secret):
        assert text not in signed_server.access_log()
        assert text not in signed_server.log()


def test_a_download_by_small_reads_is_whole(raw: Sender, s3: Any, bucket: str) -> None:
    body = os.urandom(3 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    host, _, port = raw.host.partition(":")
    digest = hashlib.sha256()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect((host, int(port)))
        connection.sendall(raw.request("GET", f"/s3/{bucket}/k"))
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(1)
        left = len(body)
        while left:
            piece = connection.recv(4096)
            assert piece
            digest.update(piece)
            left -= len(piece)
    assert digest.digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "DeleteObjects"])
def test_a_long_document_keeps_nobody_waiting(raw: Sender, bucket: str, operation: str) -> None:
    """Seconds of reading in all: others are served meanwhile."""
    control = b"&#x2;" * 100  # what takes longest
    if operation == "DeleteObjects":
        target, status = f"/s3/{bucket}?delete", 200
        entries = b"".join(b"<Object><Key>%b%d</Key></Object>" % (control * 2, number) for number in range(1000))
        document = b"<Delete><Quiet>true</Quiet>%b</Delete>" % entries
    else:
        target, status = f"/s3/{bucket}/k?uploadId={'0' * 32}", 404
        part = b"<Part><ETag>%b</ETag><PartNumber>%d</PartNumber></Part>"
        # (Characters that XML cannot carry are refused there before anything is read.)
        parts = b"".join(part % (b"&#34;" * 16 + b"e" * 600, number) for number in range(1, 10_001))
        document = b"<CompleteMultipartUpload>%b</CompleteMultipartUpload>" % parts
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    slow = raw.request("POST", target, [("content-md5", md5)], document)
    seen = []
    for _ in range(5):  # whatever else the machine does only adds to a wait; a server that is held up always is
        longest, took = _wait_beside(raw, slow, status)
        seen.append((longest, took))
        if longest < took / 3:
            return
    raise AssertionError(seen)


def _wait_beside(raw: Sender, slow: bytes, status: int) -> tuple[float, float]:
    """The longest that another client waits while a request is answered, and how long that takes."""
    waits = []
    with raw.connect() as wire, ThreadPoolExecutor(1) as thread, raw.connect() as other:
        began = time.monotonic()
        answer = thread.submit(lambda: (wire.send(slow), wire.answer())[1])
        while not answer.done():
            asked = time.monotonic()
            other.send(raw.request("GET", "/-/health"))
            assert other.answer().status == 200
            waits.append(time.monotonic() - asked)
        took = time.monotonic() - began
        assert answer.result().status == status
    return max(waits), took
