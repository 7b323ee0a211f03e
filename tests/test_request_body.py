"""Request bodies over real sockets: delivery, back-pressure, 100 Continue, early answers."""

from __future__ import annotations

import pytest
import pytest_twisted
from rawhttp import GET, HOST, Sink, answer_failure, code_of, echo, put, raises, serving, with_headers
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from aisobj.errors import S3Error
from aisobj.web.request import Request


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
async def test_a_body_that_came_with_its_head_can_be_taken_at_once_and_no_other() -> None:
    taken: list[bytes | None] = []

    def handler(request: Request) -> int:
        taken.append(request.body.take())
        if taken[-1] is None:
            return echo(request)
        if taken[-1]:
            with pytest.raises(RuntimeError):
                request.body.deliver(Sink())
        request.respond(200, [], taken[-1])
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(5) + b"abcde" + put(5) + b"fghij" + GET + put(5) + b"klm")
        for expected in (b"abcde", b"fghij", b""):
            assert (await client.response())[2] == expected
        await server.until(lambda: len(taken) == 4)
        client.send(b"no" + with_headers(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n" + GET)
        for expected in (b"klmno", b"x", b""):
            assert (await client.response())[2] == expected
        assert taken == [b"abcde", b"fghij", b"", None, None, b""]
        assert [request.bytes_in for request in server.requests] == [5, 5, 0, 5, 1, 0]


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
async def test_a_delivery_does_not_fail_while_its_consumer_is_at_work() -> None:
    sink = Sink(hold=True)
    failures: list[Failure] = []

    def handler(request: Request) -> int:
        request.body.deliver(sink).addErrback(failures.append)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(10) + b"abc")
        await server.until(lambda: sink.waiting is not None)
        (channel,) = server.site.connections
        channel.abort()  # a paused connection does not see that its client left
        await client.closed()
        assert failures == []
        sink.release()
        assert failures[0].value.code == "IncompleteBody"


@pytest_twisted.ensureDeferred
async def test_cancelling_a_delivery_cancels_what_its_consumer_does() -> None:
    sink = Sink(hold=True)
    async with serving(lambda request: NOT_DONE_YET) as server:
        client = await server.connect(put(10) + b"abc")
        await server.until(lambda: bool(server.requests))
        delivery = server.requests[0].body.deliver(sink)
        failures: list[Failure] = []
        delivery.addErrback(failures.append)
        assert sink.waiting is not None
        waiting = sink.waiting
        delivery.cancel()
        assert waiting.called
        assert failures[0].check(CancelledError)
        server.requests[0].respond(200, [])
        assert (await client.response())[0] == 200


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
            await server.turn()
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
async def test_continue_is_sent_for_a_body_of_no_bytes_too() -> None:
    """The AWS CLI hangs without it: see ``Channel``."""
    async with serving(lambda request: b"done") as server:
        client = await server.connect(put(0, b"Expect: 100-continue"))
        await client.until(lambda: client.data.endswith(b"done"))
        assert client.data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        client.data = b""
        client.send(GET.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        status, headers, body = await client.response()
        assert (status, body) == (200, b"done")
        assert b"connection" not in headers


@pytest_twisted.ensureDeferred
async def test_continue_is_moot_once_the_body_comes() -> None:
    async with serving(lambda request: NOT_DONE_YET) as server:
        client = await server.connect(put(3, b"Expect: 100-continue"))
        await server.until(lambda: bool(server.requests))
        request = server.requests[0]
        client.send(b"abc")
        await server.until(lambda: not request.body.expect_continue)
        request.respond(200, [], await request.body.read(10))
        status, headers, body = await client.response()
        assert (status, body) == (200, b"abc")
        assert b"connection" not in headers


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
