"""Plain reads take a short way past the resource tree, and nobody can tell from the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from plainkit import CLIENTS, LONG_WAY, Presigner, channel, told
from s3fixtures import fresh_name
from s3raw import Wire
from storekit import INLINE, Rig, open_rig

from aisobj.web.request import Ended

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
            ended: list[Ended] = []
            made.site.observers.append(ended.extend)

            def slow(*given: Any) -> Any:
                made.site.clock.rightNow += 0.25
                return fetch(*given)

            monkeypatch.setattr(rig.store.objects, "fetch", slow)
            made.dataReceived(HEAD)
            made.site.flush()
            assert ([seconds for _, _, seconds in ended], tree.asked) == ([0.25], 0)


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


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_over_holds_no_body(tmp_path: Path) -> None:
    """The access log keeps some of them for a second, and so does a connection whose client does not read."""
    async with open_rig("memory", tmp_path) as rig:
        await rig.bucket()
        await rig.put(b"k", b"x" * INLINE)
        with channel(rig) as (made, _, tree):
            ended: list[Ended] = []
            made.site.observers.append(ended.extend)
            made.dataReceived(HEAD)
            made.site.flush()
            assert (len(ended), tree.asked) == (1, 0)
        assert [
            value for value in vars(ended[0][0]).values() if isinstance(value, memoryview) or value == b"x" * INLINE
        ] == []
