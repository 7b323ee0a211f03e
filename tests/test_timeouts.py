"""Time-outs, on a real socket with a clock of the test's own."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from rawhttp import GET, Client, Server, Sink, answer_failure, code_of, hello, put, serving
from twisted.web.server import NOT_DONE_YET

from aisobj.web.limits import Limits
from aisobj.web.pace import ReadingPace
from aisobj.web.request import Request


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
        sink.release()
        server.advance(19)
        assert server.requests[0].status == 0
        server.advance(3)
        assert code_of(await client.closed()) == b"RequestTimeout"


@pytest_twisted.ensureDeferred
async def test_after_a_body_that_timed_out_the_connection_closes_whatever_the_answer() -> None:
    def handler(request: Request) -> int:
        request.body.deliver(Sink()).addErrback(lambda _: request.respond(500, []))
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect(put(100) + b"abc")
        await server.until(lambda: bool(server.requests))
        server.advance(22)
        _, headers, _ = await client.response()
        assert headers[b"connection"] == b"close"


@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_asked_for_does_not_time_out() -> None:
    async with serving(lambda request: NOT_DONE_YET) as server:
        client = await server.connect(put(100))
        await server.until(lambda: bool(server.requests))
        server.advance(300)
        server.requests[0].respond(200, [])
        assert (await client.response())[0] == 200


@pytest.mark.parametrize(("rate", "seconds", "lives"), [(1200, 30, True), (800, 4, False), (1000, 4, False)])
@pytest_twisted.ensureDeferred
async def test_a_body_must_keep_up_the_rate_after_its_grace(rate: int, seconds: int, lives: bool) -> None:
    """However near to it: 1,000 bytes a second would have used up their credit of three seconds after two minutes."""
    sink = Sink()

    def handler(request: Request) -> int:
        request.body.deliver(sink).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler, body_grace_seconds=3.0) as server:
        client = await server.connect(put(1_000_000))
        await server.until(lambda: bool(server.requests))
        for second in range(seconds):
            client.send(b"x" * rate)
            await server.until(
                lambda second=second: len(sink.data) == rate * (second + 1) or server.requests[0].finished  # type: ignore[misc]
            )
            server.advance(1)
        assert server.requests[0].finished is not lives


async def asking_without_reading(server: Server, *, read_bytes: int, buffer_bytes: int) -> Client:
    """A client that has sent a GET, which has come, and is paused.

    :param read_bytes: that it will read at once; ``buffer_bytes``, that its kernel keeps for it.
    """
    client = await server.connect()
    client.transport.bufferSize = read_bytes
    client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    client.transport.pauseProducing()
    client.send(GET)
    await server.until(lambda: bool(server.requests))
    return client


@pytest.mark.parametrize("answers", [1, 400], ids=["in the kernel", "more than that"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_a_few_bytes_now_and_then_is_dropped(answers: int) -> None:
    def handler(request: Request) -> int:
        request.respond(200, [], b"x" * 250_000 * answers)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await asking_without_reading(server, read_bytes=32, buffer_bytes=1)
        for _ in range(6):
            assert server.site.connections
            server.advance(9)
            client.transport.resumeProducing()
            had = len(client.data)
            await client.until(lambda had=had: len(client.data) > had)  # type: ignore[misc]
            client.transport.pauseProducing()
            await server.turn()
        server.advance(15)  # a little was read at the beginning, and earned it some time
        assert server.site.closed == {"response": 1}
        client.transport.resumeProducing()


class Reading:
    """An output whose client reads so many bytes in each second."""

    sent, pending = 1 << 30, True

    def __init__(self) -> None:
        self.read = 0

    def read_by_client(self) -> int:
        return self.read


@pytest.mark.parametrize(("rate", "seconds"), [(0, 55), (500, 55), (1000, 55), (1100, None)])
def test_a_client_must_read_at_the_rate_over_every_stretch(rate: int, seconds: int | None) -> None:
    output: Any = Reading()
    pace = ReadingPace(Limits())
    ended = None
    for second in range(1, 1000):
        output.read += rate
        if not pace.check(output, 1.0, Limits()):
            ended = second
            break
    assert ended == seconds


@pytest_twisted.ensureDeferred
async def test_a_client_that_reads_slowly_but_steadily_gets_all() -> None:
    def handler(request: Request) -> int:
        request.respond(200, [], b"x" * 20_000_000)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await asking_without_reading(server, read_bytes=1_000_000, buffer_bytes=200_000)
        (channel,) = server.site.connections
        output = channel._output
        for _ in range(20):
            server.advance(30)
            acknowledged = output.read_by_client()
            while output.read_by_client() < acknowledged + 100_000:
                had = len(client.data)
                client.transport.resumeProducing()
                await client.until(lambda had=had: len(client.data) > had)  # type: ignore[misc]
                client.transport.pauseProducing()
                await server.turn()
        assert len(client.data) < 19_000_000
        client.transport.resumeProducing()
        assert (await client.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_a_rest_that_is_dropped_must_come_in_time() -> None:
    async with serving(hello) as server:
        client = await server.connect(put(100))
        await client.response()
        server.advance(22)
        await client.closed()
        await server.until(lambda: not server.site.connections)


async def connections(server: Server) -> list[Any]:
    await server.until(lambda: bool(server.site.connections) and any(c._buffer for c in server.site.connections))
    return list(server.site.connections)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
@pytest_twisted.ensureDeferred
async def test_no_time_out_comes_early_when_the_clock_is_set(jump: float) -> None:
    """Idle connections, heads and bodies that are on their way; and they time out after all."""
    sink = Sink()

    def handler(request: Request) -> int:
        if request.method == b"GET":
            return hello(request)
        request.body.deliver(sink).addErrback(answer_failure, request)
        return NOT_DONE_YET

    async with serving(handler) as server:
        skew = 0.0
        server.site.now = lambda: server.clock.seconds() + skew
        idle, head, body = [await server.connect(data) for data in (GET, GET[:-4], put(100) + b"abc")]
        await idle.response()
        await server.until(lambda: sink.data == b"abc" and len(server.site.connections) == 3)
        server.advance(5)
        skew = jump
        server.advance(5)
        await server.turn()
        assert len(server.site.connections) == 3
        idle.send(GET)
        assert (await idle.response())[0] == 200
        body.send(b"x" * 97)
        await server.until(lambda: len(sink.data) == 100)
        for _ in range(130):
            server.advance(1)
            await server.turn()
        assert code_of(await head.closed()) == b"RequestTimeout"
        await idle.closed()
    assert all(seconds >= 0 for _, _, seconds in server.ended)


@pytest.mark.parametrize("drains", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_connection_that_closes_waits_until_its_answer_was_read(drains: bool) -> None:
    """A reset would take away what waits in the kernel."""

    def handler(request: Request) -> int:
        request.respond(200, [], b"x" * 6_000_000)
        return NOT_DONE_YET

    async with serving(handler) as server:
        client = await server.connect()
        client.transport.pauseProducing()
        client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_500_000)
        client.send(GET if drains else GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await server.until(lambda: bool(server.requests))
        while not server.ended:  # all is in the kernel
            client.transport.resumeProducing()
            await server.turn()
            client.transport.pauseProducing()
        if drains:
            server.site.drain(30)
        server.advance(25)
        client.transport.resumeProducing()
        status, _, body = await client.response()
        assert (status, len(body)) == (200, 6_000_000)
        await client.closed()
        client.transport.loseConnection()
