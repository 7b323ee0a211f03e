"""The HTTP channel over real sockets: heads, keep-alive, pipelining, bodies, time-outs, the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted
from rawhttp import Client, Server, serving
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.server import NOT_DONE_YET

from aisobj.errors import S3Error
from aisobj.web.request import Request

HOST = b"Host: x\r\n"
GET = b"GET /s3/b/k HTTP/1.1\r\n" + HOST + b"\r\n"


def hello(request: Request) -> int:
    request.respond(200, [(b"ETag", b'"e"')], b"hello " + request.path)
    return NOT_DONE_YET


class Sink:
    """Takes a body; while ``hold``, each write waits for ``release``."""

    def __init__(self, hold: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.hold = hold
        self.waiting: Deferred[None] | None = None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def write(self, data: bytes) -> Deferred[None] | None:
        assert self.waiting is None, "written to while busy"
        self.pieces.append(data)
        if not self.hold:
            return None
        self.waiting = Deferred()
        return self.waiting

    def release(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)


def answer_failure(failure: Failure, request: Request) -> None:
    error = failure.value
    request.fail(error if isinstance(error, S3Error) else S3Error("InternalError"))


def echo(request: Request) -> int:
    reading = request.body.read(1 << 20)
    reading.addCallback(lambda body: request.respond(200, [], body))
    reading.addErrback(answer_failure, request)
    return NOT_DONE_YET


def code_of(answer: bytes) -> bytes:
    found = re.search(rb"<Code>(.*)</Code>", answer)
    return found[1] if found else b""


# The head


@pytest_twisted.ensureDeferred
async def test_a_request_is_answered_with_the_headers_every_answer_has() -> None:
    async with serving(hello) as server:
        status, headers, body = await (await server.connect(GET)).response()
    assert (status, body) == (200, b"hello /s3/b/k")
    assert headers[b"date"] == b"Tue, 14 Nov 2023 22:13:20 GMT"
    assert headers[b"server"] == b"ais-s3"
    assert re.fullmatch(rb"[0-9A-F]{16}", headers[b"x-amz-request-id"])
    assert b"connection" not in headers


@pytest_twisted.ensureDeferred
async def test_the_request_shows_exactly_what_was_on_the_wire() -> None:
    async with serving(hello) as server:
        head = b"GET /s3/b/a%2Fb//c%20?x=%20&y HTTP/1.1\r\nHOST: x\r\nX-A: 1 \t\r\nx-a: 2\r\nEmpty:\r\n\r\n"
        await (await server.connect(head)).response()
        request = server.requests[0]
    assert request.uri == b"/s3/b/a%2Fb//c%20?x=%20&y"
    assert (request.path, request.query) == (b"/s3/b/a%2Fb//c%20", b"x=%20&y")
    assert request.postpath == [b"s3", b"b", b"a/b", b"", b"c "]
    assert request.raw_headers == [(b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"empty", b"")]
    assert request.header(b"x-a") == b"1"
    assert request.header(b"missing") is None
    assert request.requestHeaders.getRawHeaders(b"X-A") == [b"1", b"2"]
    assert (request.peer, request.secure) == ("127.0.0.1", False)
    assert (request.body.length, request.body.chunked) == (0, False)


@pytest_twisted.ensureDeferred
async def test_a_head_may_arrive_byte_by_byte_after_one_empty_line() -> None:
    async with serving(hello) as server:
        client = await server.connect()
        for byte in b"\r\n" + GET:
            client.send(bytes([byte]))
            await server.until(lambda: True)
        assert (await client.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_absolute_form_for_the_same_host_becomes_origin_form() -> None:
    async with serving(hello) as server:
        client = await server.connect(b"GET http://X?a=b HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.response())[0] == 200
        assert server.requests[0].uri == b"/?a=b"


def with_headers(*lines: bytes, method: bytes = b"PUT") -> bytes:
    return method + b" / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


REFUSED = {
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": b"G@T / HTTP/1.1\r\n",
    "lower-case method": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "RTSP": b"GET / RTSP/1.0\r\n" + HOST + b"\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "blank after the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": with_headers(b"Host: x"),
    "two Hosts on 1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "malformed Host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "bare LF in the request line": b"GET / HTTP/1.1\n",
    "bare LF after a header": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare LFs only": b"GET / HTTP/1.1\nHost: x\n\n",
    "obs-fold": with_headers(b"A: b", b" c"),
    "blank before the first header": b"GET / HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n",
    "blank before the colon": with_headers(b"A : b"),
    "no colon": with_headers(b"A"),
    "no name": with_headers(b": b"),
    "CR in a value": with_headers(b"x-amz-meta-a: b\rc"),
    "NUL in a value": with_headers(b"x-amz-meta-a: b\0c"),
    "negative length": with_headers(b"Content-Length: -1"),
    "length with a sign": with_headers(b"Content-Length: +5"),
    "list of lengths": with_headers(b"Content-Length: 5, 5"),
    "hexadecimal length": with_headers(b"Content-Length: 0x5"),
    "empty length": with_headers(b"Content-Length:"),
    "5,000 digits": with_headers(b"Content-Length: " + b"0" * 5000),
    "20 digits": with_headers(b"Content-Length: " + b"0" * 19 + b"5"),
    "two lengths": with_headers(b"Content-Length: 5", b"Content-Length: 5"),
    "length and chunked": with_headers(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunked and length": with_headers(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "xchunked": with_headers(b"Transfer-Encoding: xchunked"),
    "gzip, chunked": with_headers(b"Transfer-Encoding: gzip, chunked"),
    "identity": with_headers(b"Transfer-Encoding: identity"),
    "chunked twice": with_headers(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked on 1.0": b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "h2c with a body": with_headers(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 3") + GET,
    "websocket with chunks": with_headers(b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
@pytest_twisted.ensureDeferred
async def test_what_is_no_request_is_refused_at_once_and_closes(raw: bytes) -> None:
    async with serving(hello) as server:
        answer = await server.ask(raw)
        assert server.requests == []
        assert [status for _, status, _ in server.ended] == [400]
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1 400") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert b"\r\nContent-Type: application/xml\r\n" in answer
    assert code_of(answer) == b"BadRequest"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"GET /#f HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"GET http://x/#f HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"GET http://evil/ HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"GET ftp://x/ HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", b"InvalidURI"),
        (b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n", b"MethodNotAllowed"),
        (with_headers(b"A: " + b"b" * 16384), b"RequestHeaderSectionTooLarge"),
        (b"GET /" + b"a" * 16400, b"RequestHeaderSectionTooLarge"),
        (with_headers(*[b"A: b"] * 100), b"RequestHeaderSectionTooLarge"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refusals_with_a_code_of_their_own(raw: bytes, code: bytes) -> None:
    async with serving(hello) as server:
        answer = await server.ask(raw)
        assert server.requests == []
    assert code_of(answer) == code


@pytest_twisted.ensureDeferred
async def test_a_hundred_headers_are_taken() -> None:
    async with serving(hello) as server:
        assert (await (await server.connect(with_headers(*[b"A: b"] * 99))).response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_an_upgrade_without_a_body_is_ignored_and_the_connection_goes_on() -> None:
    async with serving(hello) as server:
        client = await server.connect(with_headers(b"Connection: upgrade", b"Upgrade: h2c", method=b"GET") + GET)
        assert [(await client.response())[0] for _ in range(2)] == [200, 200]


# The resource


@pytest_twisted.ensureDeferred
async def test_render_may_return_a_body() -> None:
    async with serving(lambda request: b"body") as server:
        assert (await (await server.connect(GET)).response())[2] == b"body"


def raises(error: Exception) -> Any:
    def handler(request: Request) -> int:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret"), 500, b"InternalError"),
        (S3Error("NoSuchKey"), 404, b"NoSuchKey"),
        (UnsupportedMethod([b"GET"]), 405, b"MethodNotAllowed"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_resource_that_raises_is_answered_in_xml_without_a_traceback(
    error: Exception, status: int, code: bytes
) -> None:
    async with serving(raises(error)) as server:
        client = await server.connect(GET + GET)
        for _ in range(2):
            found, headers, body = await client.response()
            assert (found, code_of(body), headers[b"content-type"]) == (status, code, b"application/xml")
            assert b"secret" not in body
            assert b"Traceback" not in body
        assert {request.error_code for request, _, _ in server.ended} == {code.decode()}


@pytest_twisted.ensureDeferred
async def test_a_resource_that_raises_after_the_head_aborts() -> None:
    def handler(request: Request) -> int:
        request.start_response(200, [], 5)
        raise RuntimeError("too late")

    async with serving(handler) as server:
        assert b"too late" not in await server.ask(GET)


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: x", b"a\nb", b"a\rb", b"a\0b"])
@pytest_twisted.ensureDeferred
async def test_a_header_value_never_splits_the_response(value: bytes) -> None:
    def handler(request: Request) -> int:
        request.respond(200, [(b"X-A", value)], b"")
        return NOT_DONE_YET

    async with serving(handler) as server:
        status, headers, _ = await (await server.connect(GET)).response()
    assert status == 500
    assert b"set-cookie" not in headers


@pytest_twisted.ensureDeferred
async def test_head_has_the_length_but_not_the_body() -> None:
    def handler(request: Request) -> int:
        given = [(b"Content-Length", b"99")] if request.path == b"/given" else []
        if request.path == b"/start":
            request.start_response(200, [], 77)
        else:
            request.respond(200, given, b"12345")
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect()
        for path, length in ((b"/", b"5"), (b"/given", b"99"), (b"/start", b"77")):
            client.send(b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            await client.until(lambda: client.data.endswith(b"\r\n\r\n"))
            assert client.data.count(b"Content-Length: ") == 1
            assert b"\r\nContent-Length: " + length + b"\r\n" in client.data
            client.data = b""
        assert [request.finished for request in server.requests] == [True] * 3


@pytest.mark.parametrize("status", [204, 304])
@pytest_twisted.ensureDeferred
async def test_204_and_304_have_neither_body_nor_length(status: int) -> None:
    def handler(request: Request) -> int:
        request.respond(status, [], b"body")
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(GET + GET)
        await client.until(lambda: client.data.count(b"\r\n\r\n") == 2)
        assert b"body" not in client.data
        assert b"Content-Length" not in client.data


@pytest_twisted.ensureDeferred
async def test_a_second_answer_is_a_bug_of_ours() -> None:
    caught: list[Exception] = []

    def handler(request: Request) -> int:
        request.start_response(200, [], 1)
        try:
            request.respond(200, [], b"")
        except RuntimeError as error:
            caught.append(error)
        request.abort()
        return NOT_DONE_YET

    async with serving(handler) as server:
        await server.ask(GET)
    assert len(caught) == 1


# Keep-alive and pipelining


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (GET, True),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: x\r\nConnection: y, close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_connection_is_kept_as_the_versions_say(head: bytes, kept: bool) -> None:
    async with serving(hello) as server:
        client = await server.connect(head)
        _, headers, _ = await client.response()
        if kept:
            assert headers.get(b"connection") == (b"keep-alive" if b"HTTP/1.0" in head else None)
            client.send(GET)
            assert (await client.response())[0] == 200
        else:
            assert headers[b"connection"] == b"close"
            assert await client.closed() == b""


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_are_answered_in_order_one_after_the_other() -> None:
    running: list[Request] = []

    def handler(request: Request) -> int:
        running.append(request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(b"".join(b"GET /%d HTTP/1.1\r\n" % n + HOST + b"\r\n" for n in range(5)))
        for number in range(5):
            await server.until(lambda number=number: len(running) > number)  # type: ignore[misc]
            assert len(running) == number + 1
            running[number].respond(200, [], running[number].path)
            assert (await client.response())[2] == b"/%d" % number


@pytest_twisted.ensureDeferred
async def test_thousands_of_pipelined_requests_do_not_recurse() -> None:
    async with serving(hello) as server:
        client = await server.connect(GET * 3000)
        await client.until(lambda: client.data.count(b"hello /s3/b/k") == 3000)


@pytest_twisted.ensureDeferred
async def test_while_a_response_runs_at_most_one_read_is_queued() -> None:
    running: list[Request] = []

    def handler(request: Request) -> int:
        running.append(request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        await server.connect(GET * 200_000)  # 8 MB
        await server.until(lambda: bool(running))
        (channel,) = server.site.connections
        await server.until(lambda: channel._paused)
        for _ in range(10):
            await server.until(lambda: True)
        assert 0 < len(channel._buffer) <= 64 * 1024


@pytest_twisted.ensureDeferred
async def test_bytes_after_connection_close_are_ignored_and_cut_nothing() -> None:
    running: list[Request] = []

    def handler(request: Request) -> int:
        running.append(request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + b"x" * 500_000)
        await server.until(lambda: bool(running))
        running[0].respond(200, [], b"y" * 3_000_000)
        assert len((await client.response())[2]) == 3_000_000
        assert await client.closed() == b""
        assert len(running) == 1


# The body


def put(length: int, *lines: bytes) -> bytes:
    return with_headers(b"Content-Length: %d" % length, *lines)


@pytest_twisted.ensureDeferred
async def test_a_request_reaches_its_resource_before_its_body() -> None:
    async with serving(echo) as server:
        client = await server.connect(put(5))
        await server.until(lambda: bool(server.requests))
        assert server.requests[0].body.length == 5
        client.send(b"abcde" + GET)
        assert (await client.response())[2] == b"abcde"
        assert (await client.response())[0] == 200
        assert server.requests[0].bytes_in == 5


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_unchunked_and_its_trailers_stay_out_of_the_headers() -> None:
    body = b"5;x=y\r\nabcde\r\n0A\r\n0123456789\r\n0\r\nHost: evil\r\nX-T: 1\r\n\r\n"
    async with serving(echo) as server:
        client = await server.connect(with_headers(b"Transfer-Encoding: Chunked") + body + GET)
        assert (await client.response())[2] == b"abcde0123456789"
        assert (await client.response())[0] == 200
        assert server.requests[0].body.chunked
        assert server.requests[0].body.length is None
        assert server.requests[0].raw_headers == [(b"host", b"x"), (b"transfer-encoding", b"Chunked")]


BAD_CHUNKS = {
    "0x5": b"0x5\r\nabcde\r\n0\r\n\r\n",
    "-1": b"-1\r\n",
    "no digits": b"\r\n",
    "LF in an extension": b"5;a\nb\r\nabcde\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nabcde\r\n0\r\n\r\n",
    "bare LF": b"5\nabcde\n0\n\n",
    "missing CRLF": b"5\r\nabcde0\r\n\r\n",
    "chunk too long": b"5\r\nabcdef\r\n0\r\n\r\n",
    "17 F's": b"F" * 17 + b"\r\n",
    "blank": b"5 \r\nabcde\r\n0\r\n\r\n",
    "extension without an end": b"5;" + b"x" * 300,
    "bad trailer": b"0\r\nno colon\r\n\r\n",
    "folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "trailer without an end": b"0\r\nA: " + b"x" * 17000,
    "too many trailers": b"0\r\n" + b"A: b\r\n" * 3000,
}


@pytest.mark.parametrize("raw", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
@pytest_twisted.ensureDeferred
async def test_broken_chunks_fail_the_body_and_close(raw: bytes) -> None:
    async with serving(echo) as server:
        answer = await server.ask(with_headers(b"Transfer-Encoding: chunked") + raw + GET)
        assert len(server.requests) == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert code_of(answer) == b"BadRequest"


@pytest.mark.parametrize("head", [put(10), with_headers(b"Transfer-Encoding: chunked")])
@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_within_its_body_reads_incomplete_body(head: bytes) -> None:
    async with serving(echo) as server:
        client = await server.connect(head + b"5\r\nabc")
        await server.until(lambda: bool(server.requests))
        client.transport.loseWriteConnection()
        answer = await client.closed()
    assert code_of(answer) == b"IncompleteBody"
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest_twisted.ensureDeferred
async def test_a_client_that_vanishes_within_its_body_fails_the_delivery() -> None:
    failures: list[Failure] = []

    def handler(request: Request) -> int:
        request.body.deliver(Sink()).addErrback(failures.append)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(10) + b"abc")
        await server.until(lambda: bool(server.requests))
        finish: list[Failure] = []
        server.requests[0].notifyFinish().addErrback(finish.append)
        client.transport.abortConnection()
        await server.until(lambda: bool(failures) and bool(finish))
        assert failures[0].value.code == "IncompleteBody"
        assert server.requests[0].gone
        server.requests[0].respond(200, [], b"nobody listens")
        assert [status for _, status, _ in server.ended] == [499]


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_after_its_requests_gets_all_answers() -> None:
    async with serving(echo) as server:
        client = await server.connect(put(3) + b"abc" + GET)
        client.transport.loseWriteConnection()
        answer = await client.closed()
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"abc" in answer


@pytest_twisted.ensureDeferred
async def test_a_busy_consumer_pauses_the_client_and_gets_every_byte_in_order() -> None:
    sink = Sink(hold=True)

    def handler(request: Request) -> int:
        request.body.deliver(sink).addCallback(lambda _: request.respond(200, []))
        return NOT_DONE_YET

    body = bytes(range(256)) * 40_000  # 10 MB: more than the sockets hold
    async with serving(handler) as server:
        client = await server.connect(put(len(body)) + body + GET)
        await server.until(lambda: sink.waiting is not None)
        (channel,) = server.site.connections
        await server.until(lambda: channel._paused)
        for _ in range(10):
            await server.until(lambda: True)
        assert len(sink.data) + len(channel._buffer) <= 2 * 65536
        sink.hold = False
        sink.release()
        assert (await client.response())[0] == 200
        assert sink.data == body


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_body_waits_for_its_busy_consumer() -> None:
    sink = Sink(hold=True)
    done: list[None] = []

    def handler(request: Request) -> int:
        request.body.deliver(sink).addCallback(done.append).addCallback(lambda _: request.respond(200, []))
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(3) + b"abc" + GET)
        await server.until(lambda: sink.waiting is not None)
        assert done == []
        sink.release()
        assert (await client.response())[0] == 200


@pytest.mark.parametrize("late", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_failing_consumer_ends_the_delivery_with_its_own_failure(late: bool) -> None:
    class Failing:
        def write(self, data: bytes) -> Deferred[None] | None:
            if not late:
                raise S3Error("BadDigest")
            waiting: Deferred[None] = Deferred()
            waiting.errback(S3Error("BadDigest"))
            return waiting

    def handler(request: Request) -> int:
        delivery = request.body.deliver(Failing())
        delivery.addCallback(lambda _: request.respond(200, [])).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(1000) + b"abc")
        _, headers, body = await client.response()
        assert code_of(body) == b"BadDigest"
        assert b"connection" not in headers  # so little is left that the connection is worth keeping
        client.send(b"x" * 997 + GET)
        assert (await client.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_a_document_over_its_limit_is_refused() -> None:
    def handler(request: Request) -> int:
        request.body.read(10).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        declared = await (await server.connect(put(11) + b"x" * 11)).response()
        head = with_headers(b"Transfer-Encoding: chunked")
        chunked = await (await server.connect(head + b"B\r\n" + b"x" * 11)).response()
    assert code_of(declared[2]) == code_of(chunked[2]) == b"MalformedXML"


@pytest_twisted.ensureDeferred
async def test_continue_is_sent_when_the_body_is_asked_for_and_not_before() -> None:
    async with serving(lambda request: NOT_DONE_YET) as server:
        client = await server.connect(put(3, b"Expect: 100-Continue"))
        await server.until(lambda: bool(server.requests))
        request = server.requests[0]
        assert request.body.expect_continue
        assert client.data == b""
        reading = request.body.read(10)
        await client.until(lambda: client.data == b"HTTP/1.1 100 Continue\r\n\r\n")
        client.data = b""
        client.send(b"abc" + GET)
        request.respond(200, [], await reading)
        assert (await client.response())[2] == b"abc"
        await server.until(lambda: len(server.requests) == 2)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest_twisted.ensureDeferred
async def test_continue_is_not_sent_to_who_does_not_wait_for_it(version: bytes) -> None:
    head = b"PUT / HTTP/" + version + b"\r\n" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with serving(echo) as server:
        client = await server.connect(head + b"abc")
        status, _, body = await client.response()
    assert (status, body) == (200, b"abc")


@pytest_twisted.ensureDeferred
async def test_an_answer_instead_of_continue_closes() -> None:
    async with serving(raises(S3Error("AccessDenied"))) as server:
        client = await server.connect(put(3, b"Expect: 100-continue"))
        status, headers, _ = await client.response()
        assert (status, headers[b"connection"]) == (403, b"close")
        assert await client.closed() == b""


@pytest_twisted.ensureDeferred
async def test_an_early_answer_to_a_large_body_is_read_by_a_client_that_sends_on() -> None:
    async with serving(raises(S3Error("AccessDenied"))) as server:
        client = await server.connect(put(20_000_000) + b"x" * 20_000_000)
        status, headers, _ = await client.response()
        assert (status, headers[b"connection"]) == (403, b"close")
        await client.closed()
        client.transport.loseConnection()
        await server.until(lambda: not server.site.connections)
        assert client.lost is not None
        assert len(server.requests) == 1


@pytest_twisted.ensureDeferred
async def test_dropping_an_unread_body_is_bounded_in_bytes_and_time() -> None:
    for limits, seconds in (({"linger_bytes": 1_000_000}, 0), ({}, 11)):
        async with serving(raises(S3Error("AccessDenied")), **limits) as server:
            client = await server.connect(put(20_000_000) + (b"x" * 2_000_000 if limits else b""))
            await client.closed()
            server.advance(seconds)
            await server.until(lambda server=server: not server.site.connections)  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_outlives_its_answer_is_cancelled() -> None:
    failures: list[Failure] = []

    def handler(request: Request) -> int:
        request.body.deliver(Sink()).addErrback(failures.append)
        request.respond(200, [])
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(10))
        assert (await client.response())[0] == 200
        assert len(failures) == 1
        client.send(b"x" * 10 + GET)
        assert (await client.response())[0] == 200


# Time-outs


@pytest_twisted.ensureDeferred
async def test_a_slow_head_has_so_many_seconds_in_total() -> None:
    async with serving(hello) as server:
        client = await server.connect(b"G")
        (channel,) = await connections(server)
        for byte in b"ET /" + b"a" * 14:
            server.advance(1)
            client.send(bytes([byte]))
            before = len(channel._buffer)
            await server.until(lambda before=before: len(channel._buffer) > before)  # type: ignore[misc]
        server.advance(3)
        assert code_of(await client.closed()) == b"RequestTimeout"


async def connections(server: Server) -> list[Any]:
    await server.until(lambda: bool(server.site.connections) and any(c._buffer for c in server.site.connections))
    return list(server.site.connections)


@pytest.mark.parametrize("first", [b"", GET])
@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed_without_a_word(first: bytes) -> None:
    async with serving(hello) as server:
        client = await server.connect(first)
        if first:
            await client.response()
            server.advance(58)
            client.send(GET)
            await client.response()
        else:
            await server.until(lambda: bool(server.site.connections))
        server.advance(62)
        assert await client.closed() == b""
        await server.until(lambda: not server.site.connections)


@pytest_twisted.ensureDeferred
async def test_a_silent_body_times_out_only_while_we_wait_for_it() -> None:
    sink = Sink(hold=True)

    def handler(request: Request) -> int:
        request.body.deliver(sink).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(100) + b"abc")
        await server.until(lambda: sink.waiting is not None)
        server.advance(300)  # we are the ones who wait
        assert client.data == b""
        sink.release()
        server.advance(19)
        assert client.data == b""
        server.advance(3)
        assert code_of(await client.closed()) == b"RequestTimeout"


@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_asked_for_does_not_time_out() -> None:
    async with serving(lambda request: NOT_DONE_YET) as server:
        client = await server.connect(put(100))
        await server.until(lambda: bool(server.requests))
        server.advance(300)
        server.requests[0].respond(200, [])
        assert (await client.response())[0] == 200


@pytest.mark.parametrize(("rate", "lives"), [(1200, True), (800, False)])
@pytest_twisted.ensureDeferred
async def test_a_body_must_keep_up_the_rate_after_its_grace(rate: int, lives: bool) -> None:
    sink = Sink()

    def handler(request: Request) -> int:
        request.body.deliver(sink).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler, body_grace_seconds=3.0) as server:
        client = await server.connect(put(1_000_000))
        await server.until(lambda: bool(server.requests))
        for second in range(30):
            client.send(b"x" * rate)
            await server.until(
                lambda second=second: len(sink.data) == rate * (second + 1) or server.requests[0].finished  # type: ignore[misc]
            )
            server.advance(1)
        assert server.requests[0].finished is not lives


@pytest_twisted.ensureDeferred
async def test_a_rest_that_is_dropped_must_come_in_time() -> None:
    async with serving(hello) as server:
        client = await server.connect(put(100))
        await client.response()
        server.advance(22)
        await client.closed()
        await server.until(lambda: not server.site.connections)


# The end


@pytest_twisted.ensureDeferred
async def test_too_many_connections_are_closed_as_they_come() -> None:
    async with serving(hello, connections=1) as server:
        first = await server.connect(GET)
        await first.response()
        assert await server.ask(b"") == b""
        first.send(GET)
        assert (await first.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_draining_closes_the_idle_and_lets_the_running_finish() -> None:
    running: list[Request] = []

    def handler(request: Request) -> int:
        running.append(request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        idle = await server.connect()
        busy = await server.connect(GET + GET)
        await server.until(lambda: len(server.site.connections) == 2 and bool(running))
        drained = server.site.drain(30)
        assert await idle.closed() == b""
        idle.transport.loseConnection()
        assert not drained.called
        running[0].respond(200, [], b"last")
        _, headers, body = await busy.response()
        assert (headers[b"connection"], body) == (b"close", b"last")
        await busy.closed()
        busy.transport.loseConnection()
        await drained
        assert len(running) == 1


@pytest_twisted.ensureDeferred
async def test_draining_aborts_what_is_not_done_in_time() -> None:
    async with serving(lambda request: NOT_DONE_YET) as server:
        client: Client = await server.connect(GET)
        await server.until(lambda: bool(server.requests))
        drained = server.site.drain(30)
        server.advance(31)
        await drained
        assert await client.closed() == b""
        assert server.requests[0].gone


@pytest_twisted.ensureDeferred
async def test_an_observer_that_fails_harms_no_request() -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("metrics")

    async with serving(hello) as server:
        server.site.observers.insert(0, broken)
        client = await server.connect(GET + GET)
        assert [(await client.response())[0] for _ in range(2)] == [200, 200]
        assert [status for _, status, _ in server.ended] == [200, 200]
