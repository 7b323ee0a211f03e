"""Writes as AWS's SDKs sign them take the short way too, and nobody can tell from the answer or from what is stored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from plainkit import LONG_WAY, SDK_WRITES, USERS, ask, channel, signed, signed_write, told
from s3raw import Answer, Wire
from storekit import open_rig

from aisobj.protocol.credentials import Credentials
from aisobj.web.request import PlainRequest

SIZES = [0, 1, 5000, 60_000, (64 << 10) + 1, 3_000_000]
DELETE = "User-Agent: rclone/v1.69\r\nAuthorization: {authorization}\r\nX-Amz-Content-Sha256: {payload}\r\n"
DELETE += "X-Amz-Date: {date}\r\nAccept-Encoding: gzip\r\nContent-Length: 0\r\n"


def put(
    server: Any,
    path: str,
    lines: str,
    body: bytes,
    *,
    at: int = 0,
    head: Any = lambda head: head,
    now: float | None = None,
) -> Answer:
    """:param at: so many bytes of the body come with the head, and the others a moment later, or when asked for.
    :param now: when it was signed, which answers to a wrong signature say.
    """
    with Wire(server.endpoint) as wire:
        host = urlsplit(server.endpoint).netloc
        begun = head(signed_write(path, host, lines, body, time.time() if now is None else now))
        wire.send(begun + body[:at])
        answer = wire.answer("PUT") if b"Expect" in begun and not at else None
        if answer is None or answer.status == 100:
            time.sleep(0 if at == len(body) else 0.02)
            wire.send(body[at:])
            return wire.answer("PUT")
        return answer


def stored(s3: Any, bucket: str, key: str) -> tuple[object, ...]:
    found = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    shown = (found["ContentLength"], found["ETag"], found["ContentType"], found["Metadata"], found.get("ChecksumCRC32"))
    return found["Body"].read(), *shown


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sdk", SDK_WRITES)
def test_both_ways_store_the_same(signed_server: Any, signed_s3: Any, signed_bucket: str, sdk: str, size: int) -> None:
    path, lines = f"/s3/{signed_bucket}/a/b~c.d_e-f", SDK_WRITES[sdk]
    body = b"0123456789" * (size // 10) + b"x" * (size % 10)
    expected = told(put(signed_server, path, lines + LONG_WAY, body))
    assert expected[0] == 200
    expected_object = stored(signed_s3, signed_bucket, "a/b~c.d_e-f")
    assert expected_object[0] == body
    for at in {0, size // 2, size}:
        put(signed_server, path, SDK_WRITES["s5cmd"] + LONG_WAY, b"other")
        assert told(put(signed_server, path, lines, body, at=at)) == expected
        assert stored(signed_s3, signed_bucket, "a/b~c.d_e-f") == expected_object


@pytest.mark.parametrize("sdk", SDK_WRITES)
def test_what_is_wrong_is_told_as_the_tree_tells_it(
    signed_server: Any, signed_s3: Any, signed_bucket: str, sdk: str
) -> None:
    path, lines = f"/s3/{signed_bucket}/k", SDK_WRITES[sdk]
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"first")
    sent = b"hello"
    for old, new, code in (
        (b"Signature=", b"Signature=0", "SignatureDoesNotMatch"),
        (b"/k HTTP", b"/j HTTP", "SignatureDoesNotMatch"),
        (b"AKIAALICE", b"AKIAEVE", "InvalidAccessKeyId"),
        (f"/{signed_bucket}/".encode(), b"/other/", "SignatureDoesNotMatch"),
    ):

        def spoil(head: bytes, old: bytes = old, new: bytes = new) -> bytes:
            return head.replace(old, new, 1)

        now = time.time()
        answers = [put(signed_server, path, lines + more, sent, head=spoil, now=now) for more in ("", LONG_WAY)]
        assert answers[0].code == code
        assert told(answers[0]) == told(answers[1])
    for bucket, code in (("nobody-has-it", "NoSuchBucket"), ("a..b", "InvalidBucketName")):
        answers = [put(signed_server, f"/s3/{bucket}/k", lines + more, sent) for more in ("", LONG_WAY)]
        assert (answers[0].code, answers[1].code) == (code, code)
        assert answers[0].status == answers[1].status
    assert stored(signed_s3, signed_bucket, "k")[0] == b"first"


@pytest.mark.parametrize("sdk", SDK_WRITES)
@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_body_that_is_another_is_refused(
    signed_server: Any, signed_s3: Any, signed_bucket: str, sdk: str, at: int
) -> None:
    """By its hash, by Content-MD5 or by a checksum; it may have come with its head or after it."""
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"first")
    host, codes = urlsplit(signed_server.endpoint).netloc, set()
    for more in ("", LONG_WAY):
        with Wire(signed_server.endpoint) as wire:
            head = signed_write(f"/s3/{signed_bucket}/k", host, SDK_WRITES[sdk] + more, b"hello", time.time())
            wire.send(head.replace(b"Expect: 100-continue\r\n", b"") + b"jello"[:at])
            time.sleep(0.02)
            wire.send(b"jello"[at:])
            codes.add(wire.answer("PUT").code)
    assert codes == {"BadDigest" if sdk == "rclone" else "XAmzContentSHA256Mismatch"}
    assert stored(signed_s3, signed_bucket, "k")[0] == b"first"


def test_a_header_that_comes_twice_or_is_not_signed(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    path, lines = f"/s3/{signed_bucket}/k", SDK_WRITES["s5cmd"]
    for line, code in (
        ("Content-Length: 5", "BadRequest"),
        ("Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "InvalidRequest"),
        ("X-Amz-Meta-Mtime: 1.5", "AccessDenied"),
        ("X-Amz-Acl: private", "AccessDenied"),
        ("x-amz-storage-class: STANDARD", "AccessDenied"),
        ("x-amz-checksum-crc32: NhCmhg==", "AccessDenied"),
    ):

        def add(head: bytes, line: str = line) -> bytes:
            return head.replace(b"\r\n\r\n", f"\r\n{line}\r\n\r\n".encode())

        answers = [put(signed_server, path, lines + more, b"hello", head=add) for more in ("", LONG_WAY)]
        assert answers[0].code == code, line
        assert told(answers[0]) == told(answers[1])


def test_a_head_that_is_too_long(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    lines = SDK_WRITES["s5cmd"].replace("S3Manager", "x" * 17_000)
    answers = [put(signed_server, f"/s3/{signed_bucket}/k", lines + more, b"hello") for more in ("", LONG_WAY)]
    assert answers[0].code == "RequestHeaderSectionTooLarge"
    assert told(answers[0]) == told(answers[1])


def test_a_client_that_leaves_in_the_middle_stores_nothing(
    signed_server: Any, signed_s3: Any, signed_bucket: str
) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"first")
    host = urlsplit(signed_server.endpoint).netloc
    for lines in SDK_WRITES.values():
        head = signed_write(f"/s3/{signed_bucket}/k", host, lines, b"hello", time.time())
        with Wire(signed_server.endpoint) as wire:
            wire.send(head.replace(b"Expect: 100-continue\r\n", b"") + b"hel")
            time.sleep(0.02)
        with Wire(signed_server.endpoint) as wire:
            wire.send(head.replace(b"Expect: 100-continue\r\n", b"") + b"hel")
            wire.end()
            assert wire.answer("PUT").code == "IncompleteBody"
    assert stored(signed_s3, signed_bucket, "k")[0] == b"first"


def test_requests_after_each_other(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    """On one connection, each sent before the one before it is answered."""
    host = urlsplit(signed_server.endpoint).netloc
    with Wire(signed_server.endpoint) as wire:
        pieces = []
        for number, lines in enumerate(SDK_WRITES.values()):
            body = b"%d" % number * 100
            head = signed_write(f"/s3/{signed_bucket}/{number}", host, lines, body, time.time())
            pieces.append(head.replace(b"Expect: 100-continue\r\n", b"") + body)
        wire.send(b"".join(pieces))
        for _ in pieces:
            assert wire.answer("PUT").status == 200
    for number in range(len(SDK_WRITES)):
        assert stored(signed_s3, signed_bucket, str(number))[0] == b"%d" % number * 100


def test_both_ways_delete(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    path = f"/s3/{signed_bucket}/k"

    def delete(lines: str, target: str = path) -> Answer:
        return ask(signed_server, "DELETE", target, lines)

    missing = told(delete(DELETE + LONG_WAY))
    assert missing[0] == 204
    for target in (path, f"{path}?x-id=DeleteObject"):
        signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"x")
        assert told(delete(DELETE, target)) == missing
        assert signed_s3.list_objects_v2(Bucket=signed_bucket)["KeyCount"] == 0
        assert told(delete(DELETE, target)) == missing
    assert told(delete(DELETE, "/s3/nobody-has-it/k")) == told(delete(DELETE + LONG_WAY, "/s3/nobody-has-it/k"))


@pytest.mark.parametrize("sdk", SDK_WRITES)
@pytest.mark.parametrize("users", [USERS, None], ids=["signed", "open"])
@pytest_twisted.ensureDeferred
async def test_the_tree_is_not_asked(sdk: str, users: Credentials | None, tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        with channel(rig, users) as (made, transport, tree):
            host = "127.0.0.1:8080"
            for number, size in enumerate((5, 500, 100_000)):
                body = b"x" * size
                head = signed_write(f"/s3/bck/{number}", host, SDK_WRITES[sdk], body, 0.0)
                made.dataReceived(head)
                made.dataReceived(body[:3])
                made.dataReceived(body[3:])
                assert transport.value().count(b"HTTP/1.1 200 OK") == number + 1
                assert transport.value().count(b"100 Continue") == (number + 1 if sdk == "python" else 0)
            made.dataReceived(signed("DELETE", "/s3/bck/0", host, DELETE, 0.0))
            assert transport.value().count(b"HTTP/1.1 204") == 1
            assert tree.asked == 0
            # And everything else is the tree's.
            head = signed_write("/s3/bck/0", host, SDK_WRITES[sdk], b"", 0.0)
            for other in (
                head.replace(b"Content-Length: 0\r\n", b""),
                head.replace(b"\r\n\r\n", b"\r\nIf-None-Match: *\r\n\r\n"),
                head.replace(b"\r\n\r\n", b"\r\nX-Amz-Copy-Source: bck/1\r\n\r\n"),
                head.replace(b"\r\n\r\n", b"\r\nX-Amz-Tagging: a=b\r\n\r\n"),
                head.replace(b"/bck/0 ", b"/bck/0?partNumber=1&uploadId=a "),
                head.replace(b"127.0.0.1", b"evil.example"),
            ):
                asked = tree.asked
                made.dataReceived(other)
                assert tree.asked == asked + 1


def test_what_a_plain_request_has() -> None:
    """Its operation may ask for headers."""
    request = PlainRequest(None, 0.0, b"PUT", b"/s3/b/k", b"/s3/b/k", "b", b"k")  # type: ignore[arg-type]
    request.set_headers({b"content-type": b"a/b"})
    assert request.header(b"content-type") == b"a/b"
    assert request.raw_headers == [(b"content-type", b"a/b")]
    assert not request.has_none_of({b"content-type"})
