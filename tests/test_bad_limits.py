"""Limits, each by its name: what is just within is taken, what is just beyond is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from badinputs import LIMITS, Checked, Rows, World
from rawhttp import GET, Sink, answer_failure, code_of, hello, put, serving
from s3fixtures import fresh_name
from s3raw import Answer
from test_bad_requests import post
from test_transport import tls
from twisted.web.server import NOT_DONE_YET

from aisobj.web.limits import Limits
from aisobj.web.request import Request

__all__ = ["tls"]  # a fixture

ROWS = Rows()
row = ROWS.row


@pytest.mark.parametrize("name", ROWS.by_name)
def test_limit(name: str, world: World) -> None:
    ROWS.check(name, world)


def stored(w: World, answer: Answer, target: str = "") -> None:
    """It was taken; it goes again."""
    assert answer.status == 200, answer
    assert w.open.ask("DELETE", target or w.target).status == 204


@row("head")
def _(w: World) -> Iterator[Checked]:
    empty = w.open.head("GET", f"{w.path}/missing", [("a", "")])
    for size in (16 * 1024, 16 * 1024 + 1):
        data = w.open.head("GET", f"{w.path}/missing", [("a", "x" * (size - len(empty)))])
        assert len(data) == size
        code = (404, "NoSuchKey") if size == 16 * 1024 else (400, "RequestHeaderSectionTooLarge")
        yield w.open.send(data), *code


@row("headers")
def _(w: World) -> Iterator[Checked]:
    fields = [(f"a{number}", "x") for number in range(100)]  # and Host
    yield w.open.send(w.open.head("GET", f"{w.path}/missing", fields[:99])), 404, "NoSuchKey"
    yield w.open.send(w.open.head("GET", f"{w.path}/missing", fields)), 400, "RequestHeaderSectionTooLarge"


@row("metadata")
def _(w: World) -> Iterator[Checked]:
    stored(w, w.open.ask("PUT", w.target, [("x-amz-meta-a", "x" * 2047)], b"x"))
    yield w.open.ask("PUT", w.target, [("x-amz-meta-a", "x" * 2048)], b"x"), 400, "MetadataTooLarge"


@row("key")
def _(w: World) -> Iterator[Checked]:
    for key in ("k" * 1024, "%C3%A9" * 512):
        stored(w, w.open.ask("PUT", f"{w.path}/{key}", body=b"x"), f"{w.path}/{key}")
        yield w.open.ask("PUT", f"{w.path}/{key}k", body=b"x"), 400, "KeyTooLongError"


def padded(document: bytes, size: int) -> bytes:
    """With blanks before its last end tag (a tag of that length is none)."""
    content, slash, root = document.rpartition(b"</")
    return content + b" " * (size - len(document)) + slash + root


@row("document", once=True)
def _(w: World) -> Iterator[Checked]:
    versioning = b"<VersioningConfiguration></VersioningConfiguration>"
    configuration = (
        b"<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>"
    )
    name = fresh_name()
    for method, target, document in (
        ("PUT", f"{w.path}?versioning", versioning),
        ("PUT", f"/s3/{name}", configuration),
    ):
        within = w.open.ask(method, target, body=padded(document, 1 << 20))
        if document is versioning:  # read, and refused for what it does not say
            yield within, 400, "IllegalVersioningConfigurationException"
        else:
            assert within.status == 200
            yield w.open.ask("DELETE", target), 204, ""
        # Refused for its length, before a byte of it is sent.
        yield w.open.send(w.open.head(method, target, length=(1 << 20) + 1)), 400, "MalformedXML"


@row("long document", once=True)
def _(w: World) -> Iterator[Checked]:
    delete = padded(b"<Delete><Object><Key>nothing</Key></Object></Delete>", 8 << 20)
    assert post(w, "POST", f"{w.path}?delete", delete).status == 200
    complete = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"
    )
    target = f"{w.target}?uploadId={'0' * 32}"
    yield post(w, "POST", target, padded(complete, 8 << 20)), 404, "NoSuchUpload"
    digest = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")
    for long in (f"{w.path}?delete", target):
        yield w.open.send(w.open.head("POST", long, [digest], length=(8 << 20) + 1)), 400, "MalformedXML"


@row("delete")
def _(w: World) -> Iterator[Checked]:
    for count in (1000, 1001):
        document = b"<Delete><Quiet>true</Quiet>" + b"<Object><Key>nothing</Key></Object>" * count + b"</Delete>"
        answer = post(w, "POST", f"{w.path}?delete", document)
        if count == 1000:
            assert answer.status == 200
        else:
            yield answer, 400, "MalformedXML"


def begun(w: World) -> str:
    return f"{w.target}?uploadId={w.open.ask('POST', f'{w.target}?uploads').element('UploadId')}"


@row("parts")
def _(w: World) -> Iterator[Checked]:
    target = begun(w)
    for number in (1, 10_000):
        assert w.open.ask("PUT", f"{target}&partNumber={number}", body=b"x").status == 200
    for number in (0, 10_001):
        yield w.open.ask("PUT", f"{target}&partNumber={number}", body=b"x"), 400, "InvalidArgument"
    assert w.open.ask("DELETE", target).status == 204


@row("part", once=True)
def _(w: World) -> Iterator[Checked]:
    target = begun(w)
    for size in (5 << 20) - 1, 5 << 20:
        etags = [
            w.open.ask("PUT", f"{target}&partNumber={number}", body=b"x" * length).headers["etag"]
            for number, length in ((1, size), (2, 1))
        ]
        parts = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1)
        )
        answer = w.open.ask("POST", target, body=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode())
        if size < 5 << 20:
            yield answer, 400, "EntityTooSmall"
    stored(w, answer)


@row("put")
def _(w: World) -> Iterator[Checked]:
    expect = [("expect", "100-continue")]
    for target in (w.target, f"{begun(w)}&partNumber=1"):
        for size in (5 << 30, (5 << 30) + 1):
            with w.open.connect() as wire:
                wire.send(w.open.head("PUT", target, expect, length=size))
                answer = wire.answer()
            if size > 5 << 30:
                yield answer, 400, "EntityTooLarge"
            elif answer.status != 100:  # there is no room for it here: it was not refused for its length
                yield answer, 503, "SlowDown"
        if "uploadId" in target:
            assert w.open.ask("DELETE", target.partition("&")[0]).status == 204


@row("max-keys")
def _(w: World) -> Iterator[Checked]:
    for query in ("max-keys=1001", "list-type=2&max-keys=2147483647"):
        assert w.open.ask("GET", f"{w.path}?{query}").element("MaxKeys") == "1000"
    yield w.open.ask("GET", f"{w.path}?max-keys=2147483648"), 400, "InvalidArgument"


@row("ranges")
def _(w: World) -> Iterator[Checked]:
    for value, status in (("bytes=0-1", 206), ("bytes=0-1,3-4", 200)):
        assert w.open.ask("GET", f"{w.path}/kept", [("range", value)]).status == status
    yield w.open.ask("GET", f"{w.path}/kept", [("range", "bytes=99-")]), 416, "InvalidRange"


@row("tags")
def _(w: World) -> Iterator[Checked]:
    for count in (1, 10, 11):
        tags = "".join(f"<Tag><Key>k{n}</Key><Value>v</Value></Tag>" for n in range(count))
        document = f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()
        yield w.open.ask("PUT", f"{w.path}/kept?tagging", body=document), 501, "NotImplemented"
        header = "&".join(f"k{n}=v" for n in range(count))
        yield w.open.ask("PUT", w.target, [("x-amz-tagging", header)], b"x"), 501, "NotImplemented"


@row("policy")
def _(w: World) -> Iterator[Checked]:
    for size in (20 * 1024, 20 * 1024 + 1, 1 << 20):
        body = b'--b\r\nContent-Disposition: form-data; name="policy"\r\n\r\n' + b"A" * size + b"\r\n--b--\r\n"
        fields = [("content-type", "multipart/form-data; boundary=b")]
        yield w.open.ask("POST", w.path, fields, body), 501, "NotImplemented"


@row("length")
def _(w: World) -> Iterator[Checked]:
    for digits, code in (("9" * 19, "EntityTooLarge"), ("9" * 20, "BadRequest"), ("0" * 19 + "1", "BadRequest")):
        yield w.open.send(w.open.head("PUT", w.target, [("content-length", digits)])), 400, code


# What the rows' form does not fit: AIStore's answers, and time, which is a test's own here


def named(limit: str) -> Any:
    ROWS.ids.add(limit)
    return pytest.mark.parametrize("limit", [f"{limit}: {LIMITS[limit]}"])


@named("object")
def test_limit_of_an_object(limit: str, world: World) -> None:
    """In one PUT that is AIStore's only; the sum of parts is looked at in ``test_store_multipart``."""
    target = f"/v1/objects/{world.bucket}/k"
    for size, statuses in ((5 << 40, (100, 503)), ((5 << 40) + 1, (400,))):
        with world.open.connect() as wire:
            wire.send(world.open.head("PUT", target, [("expect", "100-continue")], length=size))
            answer = wire.answer()
        assert answer.status in statuses, answer
    assert b"ErrEntityTooLarge" in answer.body
    world.check()


@named("head time")
@pytest_twisted.ensureDeferred
async def test_time_of_a_head(limit: str) -> None:
    async with serving(hello) as server:
        client = await server.connect(GET[:10])
        await server.until(lambda: any(channel._buffer for channel in server.site.connections))
        server.advance(18)
        client.send(GET[10:12])
        await server.turn()
        assert not client.eof
        server.advance(3)
        assert code_of(await client.closed()) == b"RequestTimeout"


@named("body rate")
@pytest_twisted.ensureDeferred
async def test_rate_of_a_body(limit: str) -> None:
    for rate, lives in ((1100, True), (900, False)):
        sink = Sink()

        def handler(request: Request, sink: Sink = sink) -> int:
            request.body.deliver(sink).addErrback(answer_failure, request)
            return NOT_DONE_YET

        async with serving(handler) as server:
            client = await server.connect(put(1 << 30))
            await server.until(lambda server=server: bool(server.requests))  # type: ignore[misc]
            for second in range(250):
                if server.requests[0].finished:
                    break
                client.send(b"x" * rate)
                enough = rate * (second + 1)
                await server.until(
                    lambda server=server, sink=sink, enough=enough: (  # type: ignore[misc]
                        len(sink.data) >= enough or server.requests[0].finished
                    )
                )
                server.advance(1)
            assert server.requests[0].finished is not lives


@named("unread")
@pytest_twisted.ensureDeferred
async def test_time_of_a_response_that_nobody_reads(limit: str) -> None:
    def handler(request: Request) -> int:
        request.respond(200, [], b"x" * (32 << 20))
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect()
        client.transport.pauseProducing()
        client.send(GET)
        await server.until(lambda: bool(server.requests))
        server.advance(58)
        assert server.site.connections
        server.advance(5)
        await server.until(lambda: not server.site.connections)


@named("idle")
@pytest_twisted.ensureDeferred
async def test_time_between_requests(limit: str) -> None:
    async with serving(hello) as server:
        client = await server.connect(GET)
        await client.response()
        server.advance(58)
        client.send(GET)
        assert (await client.response())[0] == 200
        server.advance(61)
        assert await client.closed() == b""


@named("handshake")
@pytest_twisted.ensureDeferred
async def test_time_of_a_handshake(limit: str, tls: Any) -> None:
    async with serving(hello, tls=tls[0]) as server:
        client = await server.connect(b"\x16\x03\x01")
        await server.until(lambda: bool(server.site.connections))
        server.advance(8)
        assert not client.eof
        server.advance(3)
        await client.closed()


@named("pause")
@pytest_twisted.ensureDeferred
async def test_no_time_passes_while_we_pause(limit: str) -> None:
    sink = Sink(hold=True)

    def handler(request: Request) -> int:
        request.body.deliver(sink).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(100) + b"abc")
        await server.until(lambda: sink.waiting is not None)
        server.advance(600)
        assert server.requests[0].status == 0
        sink.release()
        server.advance(Limits().body_grace_seconds + 3)
        assert code_of(await client.closed()) == b"RequestTimeout"
