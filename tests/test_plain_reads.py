"""Plain reads take a short way past the resource tree, and nobody can tell from the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from s3fixtures import fresh_name
from s3raw import Answer, Wire
from storekit import Rig, open_rig
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from aisobj.model import BucketProps
from aisobj.s3.call import Context
from aisobj.s3.plain import PlainReads
from aisobj.web.auth import Authenticator
from aisobj.web.site import Site
from fuzzing.targets.heads import Transport

#: As curl, requests, Go and wrk write their heads.
CLIENTS = [
    "",
    "User-Agent: curl/8.14.1\r\nAccept: */*\r\n",
    "User-Agent: python-requests/2.32\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n",
    "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n",
    "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.12\r\n",
]
#: No client sends it, and the short way does not know it.
LONG_WAY = "X-Long-Way: 1\r\n"


class Presigner:
    """Raw requests with presigned URLs, each on a connection of its own."""

    def __init__(self, server: Any, s3: Any) -> None:
        self._endpoint = server.endpoint
        self._s3 = s3

    def url(self, method: str, bucket: str, key: str) -> str:
        url: str = self._s3.generate_presigned_url(
            {"GET": "get_object", "HEAD": "head_object"}[method], {"Bucket": bucket, "Key": key}
        )
        return url

    def ask(self, method: str, url: str, lines: str = "") -> Answer:
        parts = urlsplit(url)
        with Wire(self._endpoint) as wire:
            wire.send(f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode())
            return wire.answer(method)


@pytest.fixture
def presigner(signed_server: Any) -> Presigner:
    return Presigner(signed_server, signed_server.boto(config={"signature_version": "s3v4"}))


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What must be the same each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-amz-request-id")}
    return answer.status, headers, answer.body.replace(answer.headers["x-amz-request-id"].encode(), b"")


OBJECTS: dict[str, dict[str, Any]] = {
    "plain": {"Body": b"0123456789"},
    "a/b~c.d_e-f": {"Body": b"x" * 5000, "ContentType": "text/plain; charset=utf-8"},
    "empty": {"Body": b""},
    "named": {"Body": b"x", "CacheControl": "no-store", "Metadata": {"a": "b"}},
    "blob": {"Body": b"x" * 100_000},
    "summed": {"Body": b"x", "ChecksumAlgorithm": "SHA256"},
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("key", [*OBJECTS, "missing"])
def test_both_ways_give_the_same(
    presigner: Presigner, signed_s3: Any, signed_bucket: str, key: str, method: str
) -> None:
    if key in OBJECTS:
        signed_s3.put_object(Bucket=signed_bucket, Key=key, **OBJECTS[key])
    url = presigner.url(method, signed_bucket, key)
    expected = told(presigner.ask(method, url, LONG_WAY))
    assert expected[0] == (200 if key in OBJECTS else 404)
    for lines in CLIENTS:
        assert told(presigner.ask(method, url, lines)) == expected
    assert presigner.ask(method, url.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status == 403
    assert presigner.ask(method, url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601")).status == 403


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_both_ways_show_the_same_of_a_bucket_with_versions(
    presigner: Presigner, signed_s3: Any, signed_bucket: str, status: str
) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"x")
    url = presigner.url("GET", signed_bucket, "k")
    presigner.ask("GET", url)
    signed_s3.put_bucket_versioning(Bucket=signed_bucket, VersioningConfiguration={"Status": status})
    answer = presigner.ask("GET", url)
    assert told(answer) == told(presigner.ask("GET", url, LONG_WAY))
    assert ("x-amz-version-id" in answer.headers) is (status == "Enabled")


def test_what_was_acknowledged_is_seen_at_once(presigner: Presigner, signed_s3: Any) -> None:
    """Also by the short way, which does not look at a bucket again while nothing is committed."""
    bucket = fresh_name()
    url = presigner.url("GET", bucket, "k")
    for number in range(20):
        assert presigner.ask("GET", url).code == "NoSuchBucket"
        signed_s3.create_bucket(Bucket=bucket)
        assert presigner.ask("GET", url).code == "NoSuchKey"
        signed_s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)
        assert presigner.ask("GET", url).body == b"%d" % number
        signed_s3.put_object(Bucket=bucket, Key="k", Body=b"other")
        assert presigner.ask("GET", url).body == b"other"
        signed_s3.delete_object(Bucket=bucket, Key="k")
        assert presigner.ask("GET", url).code == "NoSuchKey"
        signed_s3.delete_bucket(Bucket=bucket)


class Nobody(Resource):
    """A tree that is asked."""

    asked = 0

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:
        self.asked += 1
        raise RuntimeError("the tree is asked")


HEAD = b"GET /s3/bck/k HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_a_read_that_fails_is_the_trees_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the index has no room for readers")

    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"body")
        monkeypatch.setattr(rig.store.objects, "fetch", fail)
        with channel(rig) as (made, _, tree):
            made.dataReceived(HEAD)
            assert tree.asked == 1


@pytest_twisted.ensureDeferred
async def test_the_time_of_a_read_is_from_its_head_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"body")
        fetch = rig.store.objects.fetch
        with channel(rig) as (made, _, tree):
            took = list[float]()
            made.site.observers.append(lambda request, status, seconds: took.append(seconds))

            def slow(*given: Any) -> Any:
                made.site.clock.rightNow += 0.25
                return fetch(*given)

            monkeypatch.setattr(rig.store.objects, "fetch", slow)
            made.dataReceived(HEAD)
            assert (took, tree.asked) == ([0.25], 0)


@contextmanager
def channel(rig: Rig) -> Iterator[tuple[Any, Transport, Nobody]]:
    tree = Nobody()
    site = Site(tree, Clock())
    context = Context(rig.store, Authenticator(None, "", lambda: 0.0), BucketProps(), in_thread=None)  # type: ignore[arg-type]
    site.shortcut = PlainReads(context)
    made, transport = site.buildProtocol(None), Transport()
    made.makeConnection(transport)  # type: ignore[no-untyped-call]
    try:
        yield made, transport, tree
    finally:
        made.connectionLost()


@pytest.mark.parametrize("lines", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_the_tree_is_not_asked(lines: str, tmp_path: Path) -> None:
    async with open_rig("memory", tmp_path) as rig:
        await _ask_without_a_tree(rig, lines)


async def _ask_without_a_tree(rig: Rig, lines: str) -> None:
    await rig.bucket()
    await rig.put(b"k", b"body")
    head = f"GET /s3/bck/k HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{lines}\r\n".encode()
    with channel(rig) as (made, transport, tree):
        for _ in range(3):
            made.dataReceived(head)
        assert transport.value().count(b"HTTP/1.1 200 OK") == 3
        assert transport.value().endswith(b"\r\n\r\nbody")
        assert tree.asked == 0
        # And everything else is the tree's: half a head, two of them, any other host, the rest of a slow one.
        for parts in ([head[:-1], head[-1:]], [head + head], [head.replace(b"127.0.0.1", b"evil.example")]):
            asked = tree.asked
            for part in parts:
                made.dataReceived(part)
            assert tree.asked > asked


@pytest.mark.parametrize("name", ["b" * 64, "b" * 2500, "a..b", "-b", "ab"])
def test_a_name_that_no_bucket_can_have_is_told_by_the_tree(server: Any, name: str) -> None:
    with Wire(server.endpoint) as wire:
        wire.send(f"GET /s3/{name}/k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert wire.answer().code == "InvalidBucketName"


def test_as_many_headers_as_a_head_may_have(presigner: Presigner, signed_s3: Any, signed_bucket: str) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"x")
    url = presigner.url("GET", signed_bucket, "k")
    for count in (3, 4, 90, 400):
        lines = "Accept: a\r\n" * count
        assert told(presigner.ask("GET", url, lines)) == told(presigner.ask("GET", url, LONG_WAY + lines))
