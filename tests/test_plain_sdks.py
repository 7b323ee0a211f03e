"""Reads as AWS's SDKs sign them take the short way too, and nobody can tell from the answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from plainkit import LONG_WAY, SDKS, USERS, ask, channel, signed, told
from storekit import open_rig

from aisobj.protocol.credentials import Credentials

OBJECTS: dict[str, dict[str, Any]] = {
    "plain": {"Body": b"0123456789"},
    "a/b~c.d_e-f": {"Body": b"x" * 5000, "ContentType": "text/plain; charset=utf-8"},
    "named": {"Body": b"x", "Metadata": {"a": "b"}},
    "blob": {"Body": b"x" * 100_000},
    "summed": {"Body": b"x", "ChecksumAlgorithm": "SHA256"},
}
WITHOUT_CHECKSUM_MODE = [sdk for sdk, lines in SDKS.items() if "checksum-mode" not in lines.lower()]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("key", [*OBJECTS, "missing"])
def test_both_ways_give_the_same(signed_server: Any, signed_s3: Any, signed_bucket: str, key: str, method: str) -> None:
    if key in OBJECTS:
        signed_s3.put_object(Bucket=signed_bucket, Key=key, **OBJECTS[key])
    path = f"/s3/{signed_bucket}/{key}"
    for lines in SDKS.values():
        answer = ask(signed_server, method, path, lines)
        assert answer.status == (200 if key in OBJECTS else 404)
        assert told(answer) == told(ask(signed_server, method, path, lines + LONG_WAY))
        with_checksum = key == "summed" and "checksum-mode" in lines.lower()
        assert ("x-amz-checksum-sha256" in answer.headers) is with_checksum


@pytest.mark.parametrize("key", [*OBJECTS, "empty", "missing"])
def test_both_ways_give_the_same_range(signed_server: Any, signed_s3: Any, signed_bucket: str, key: str) -> None:
    if key != "missing":
        signed_s3.put_object(Bucket=signed_bucket, Key=key, **OBJECTS.get(key, {}))
    path, statuses = f"/s3/{signed_bucket}/{key}", []
    for wanted in ("0-52428799", "0-0", "1-3", "1-", "-4", "-0", "9-", "10-", "3-1", "-", "00-01", "0-999999999999999"):
        for method in ("GET", "HEAD"):
            for sdk in SDKS.values():
                lines = f"{sdk}Range: bytes={wanted}\r\n"
                answer = ask(signed_server, method, path, lines)
                assert told(answer) == told(ask(signed_server, method, path, lines + LONG_WAY))
                statuses.append(answer.status)
    assert set(statuses) == {"empty": {200, 416}, "missing": {404}}.get(key, {200, 206, 416})


def test_a_query_that_says_what_the_method_says(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"body")
    for query in ("x-id=GetObject", "x-id=Else", "x-id", "versionId=null"):
        both = [
            ask(signed_server, "GET", f"/s3/{signed_bucket}/k?{query}", SDKS["javascript"] + more)
            for more in ("", LONG_WAY)
        ]
        assert told(both[0]) == told(both[1])
        assert both[0].status == 200


@pytest.mark.parametrize("sdk", SDKS)
def test_a_signature_that_is_wrong_is_refused(signed_server: Any, signed_s3: Any, signed_bucket: str, sdk: str) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"body")
    path, lines = f"/s3/{signed_bucket}/k", SDKS[sdk]

    def code(head: Any) -> str:
        return ask(signed_server, "GET", path, lines, head).code

    assert code(lambda head: head.replace(b"Signature=", b"Signature=0")) == "SignatureDoesNotMatch"
    assert code(lambda head: head.replace(b"/k HTTP", b"/j HTTP")) == "SignatureDoesNotMatch"
    assert code(lambda head: head.replace(b"GET ", b"PUT ")) == "SignatureDoesNotMatch"
    assert code(lambda head: head.replace(b"AKIAALICE", b"AKIABOB")) == "SignatureDoesNotMatch"
    assert code(lambda head: head.replace(b"AKIAALICE", b"AKIAEVE")) == "InvalidAccessKeyId"
    assert code(lambda head: head.replace(b"us-east-1/s3", b"us-east-1/sqs")) == "AuthorizationHeaderMalformed"
    host = urlsplit(signed_server.endpoint).netloc
    for seconds in (-1000, 1000):
        late = signed("GET", path, host, lines, time.time() + seconds)
        assert code(lambda _, late=late: late) == "RequestTimeTooSkewed"


@pytest.mark.parametrize("left_out", [b"host", b"x-amz-checksum-mode", b"x-amz-user-agent"])
def test_what_must_be_signed(signed_server: Any, signed_s3: Any, signed_bucket: str, left_out: bytes) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"body")
    lines = next(lines for lines in SDKS.values() if left_out in b"host " + lines.lower().encode())
    host = urlsplit(signed_server.endpoint).netloc
    path = f"/s3/{signed_bucket}/k"
    head = signed("GET", path, host, lines, time.time(), frozenset({left_out}))
    answer = ask(signed_server, "GET", path, lines, lambda _: head)
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_a_header_that_comes_twice(signed_server: Any, signed_s3: Any, signed_bucket: str) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"body")
    path = f"/s3/{signed_bucket}/k"
    for line, status in (
        ("Host: a.example", 400),
        ("X-Amz-Date: 20130524T000000Z", 400),
        ("Authorization: AWS4-HMAC-SHA256 a", 400),
        ("x-amz-checksum-mode: ENABLED", 200),
        ("Accept: text/html", 200),
    ):
        for lines in (f"{line}\r\n{SDKS['python']}Accept: */*\r\n", f"{SDKS['python']}Accept: */*\r\n{line}\r\n"):
            answer = ask(signed_server, "GET", path, lines)
            assert answer.status == status, line
            assert told(answer) == told(ask(signed_server, "GET", path, lines + LONG_WAY))


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("users", [USERS, None], ids=["signed", "open"])
@pytest_twisted.ensureDeferred
async def test_the_tree_is_not_asked(sdk: str, users: Credentials | None, tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"body")
        with channel(rig, users) as (made, transport, tree):
            head = signed("GET", "/s3/bck/k", "127.0.0.1:8080", SDKS[sdk], 0.0)
            made.dataReceived(head)
            made.dataReceived(signed("GET", "/s3/bck/k?x-id=GetObject", "127.0.0.1:8080", SDKS[sdk], 0.0))
            assert transport.value().count(b"HTTP/1.1 200 OK") == 2
            assert transport.value().endswith(b"\r\n\r\nbody")
            if sdk in WITHOUT_CHECKSUM_MODE:
                made.dataReceived(signed("GET", "/s3/bck/k", "127.0.0.1:8080", SDKS[sdk] + "Range: bytes=1-2\r\n", 0.0))
                assert transport.value().endswith(b"Content-Range: bytes 1-2/4\r\nContent-Length: 2\r\n\r\nod")
            assert tree.asked == 0
            # And everything else is the tree's.
            for number, other in enumerate(
                (
                    head.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1,2-3\r\n\r\n"),
                    head.replace(b"127.0.0.1", b"evil.example"),
                    head.replace(b": ", b":  ", 2),
                    head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
                )
            ):
                made.dataReceived(other)
                assert tree.asked == number + 1
                made.dataReceived(head)
                assert tree.asked == number + 1
