"""The HTTP channel over real sockets: heads, answers, keep-alive, pipelining, the end."""

from __future__ import annotations

import re

import pytest
import pytest_twisted
from rawhttp import GET, HOST, Client, code_of, hello, raises, serving, with_headers
from twisted.web.error import UnsupportedMethod
from twisted.web.server import NOT_DONE_YET

from aisobj.errors import S3Error
from aisobj.web.request import Request

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
    assert request.header(b"x-a") == b"1, 2"
    assert request.header(b"missing") is None
    assert request.requestHeaders.getRawHeaders(b"X-A") == [b"1", b"2"]
    assert (request.peer, request.secure) == ("127.0.0.1", False)
    assert (request.body.length, request.body.chunked) == (0, False)


@pytest_twisted.ensureDeferred
async def test_a_head_may_arrive_byte_by_byte_after_empty_lines() -> None:
    async with serving(hello) as server:
        client = await server.connect()
        for byte in b"\r\n\r\n" + GET:
            client.send(bytes([byte]))
            await server.turn()
        assert (await client.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_empty_lines_before_a_head_are_ignored_in_one_read_too() -> None:
    async with serving(hello) as server:
        assert (await (await server.connect(b"\r\n" * 3 + GET)).response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_absolute_form_for_the_same_host_becomes_origin_form() -> None:
    async with serving(hello) as server:
        client = await server.connect(b"GET http://X?a=b HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.response())[0] == 200
        assert server.requests[0].uri == b"/?a=b"


REFUSED = {
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": b"G@T / HTTP/1.1\r\n",
    "a line feed before the method": b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "carriage returns before the method": b"\r\rGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "lower-case method": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "RTSP": b"GET / RTSP/1.0\r\n" + HOST + b"\r\n",
    "LF before the method": b"\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "CR before the method": b"\rGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "LF after an empty line": b"\r\n\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "blank after the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": with_headers(b"Host: x"),
    "two Hosts on 1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    "LF within the target": b"GET /\nX:/ HTTP/1.1\r\n" + HOST + b"\r\n",
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
            await server.turn()
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


# The end


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
        server.advance(2)
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
async def test_draining_answers_who_has_connected_or_asked_just_before() -> None:
    async with serving(hello) as server:
        silent = await server.connect()
        kept = await server.connect(GET)
        idle = await server.connect(GET)
        for client in (kept, idle):
            await client.response()
        await server.until(lambda: len(server.site.connections) == 3)
        for channel in server.site.connections:
            channel.transport.pauseProducing()  # type: ignore[union-attr]
        kept.send(GET)
        await server.turn()
        drained = server.site.drain(30)
        assert await idle.closed() == b""
        for channel in server.site.connections:
            channel.transport.resumeProducing()  # type: ignore[union-attr]
        silent.send(GET)
        for client in (silent, kept):
            status, headers, _ = await client.response()
            assert (status, headers[b"connection"]) == (200, b"close")
            await client.closed()
        for client in server.clients:
            client.transport.loseConnection()
        await drained


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
