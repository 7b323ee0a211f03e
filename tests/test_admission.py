"""Limits of connections, on a real socket: who makes room, who is told to come later, who is cut."""

from __future__ import annotations

import pytest
import pytest_twisted
from rawhttp import GET, Client, Server, code_of, serving
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.server import NOT_DONE_YET

from aisobj.web.admission import Admission, Entry
from aisobj.web.channel import Channel
from aisobj.web.limits import Limits
from aisobj.web.request import Request

OTHER = "127.0.0.2"


def hold(request: Request) -> int:
    """Busy until the test answers."""
    return NOT_DONE_YET


async def connected(server: Server, data: bytes = b"", source: str = "127.0.0.1") -> Client:
    """A client that the server knows of, with all that it has sent."""
    before, requests = set(server.site.connections), len(server.requests)
    client = await server.connect(data, source=source)
    await server.until(lambda: bool(server.site.connections - before))
    (channel,) = server.site.connections - before
    whole = data.endswith(b"\r\n\r\n")
    await server.until(lambda: len(server.requests) > requests if whole else channel._buffer == data)
    server.advance(1)  # so that their times differ
    return client


def refused(answer: bytes) -> bool:
    head = answer.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert answer.startswith(b"HTTP/1.1 503 ") and code_of(answer) == b"SlowDown"
    assert b"\r\nRetry-After: 1\r\n" in head and b"\r\nConnection: close\r\n" in head
    return True


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
@pytest_twisted.ensureDeferred
async def test_the_idle_one_whose_time_is_up_first_makes_room(limit: str) -> None:
    async with serving(hold, **{limit: 3}) as server:
        busy = await connected(server, GET)
        silent = await connected(server)
        begun = await connected(server, b"GET /")
        for each in (silent, begun):
            newcomer = await connected(server, GET)
            await each.closed()
            assert each.data == b""
        assert server.site.closed == {"displaced": 2}
        assert refused(await server.ask(GET))
        for request in server.requests:
            request.respond(200, [])
        assert (await busy.response())[0] == (await newcomer.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_who_is_busy_makes_no_room_and_is_welcome_again_later() -> None:
    async with serving(hold, connections=1) as server:
        first = await connected(server, GET)
        assert refused(await server.ask(b""))
        assert refused(await server.ask(GET))
        assert server.site.closed == {"connections": 2}
        server.requests[0].respond(200, [])
        await first.response()
        server.advance(1)  # it is not looked for an idle one all the time
        await connected(server, GET)
        server.requests[-1].respond(200, [])


@pytest_twisted.ensureDeferred
async def test_one_address_takes_no_room_from_the_others() -> None:
    async with serving(hold, connections_per_address=2) as server:
        for _ in range(2):
            await connected(server, GET)
        assert refused(await server.ask(GET))
        assert server.site.closed == {"address": 1}
        other = await connected(server, GET, OTHER)
        server.requests[-1].respond(200, [])
        assert (await other.response())[0] == 200


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_gone_is_forgotten() -> None:
    async with serving(hold, connections_per_address=1) as server:
        for _ in range(3):
            client = await connected(server, GET)
            client.transport.abortConnection()
            await server.until(lambda: not server.site.connections)
        assert not server.site._admission._addresses


@pytest_twisted.ensureDeferred
async def test_few_are_told_and_the_rest_is_cut() -> None:
    async with serving(hold, connections=1, refusals=2, linger_seconds=3.0) as server:
        await connected(server, GET)
        told = [await server.connect() for _ in range(2)]
        for client in told:
            assert refused(await client.closed())
        assert await server.ask(b"") == b""
        assert len(server.site.connections) == 3
        server.advance(5)  # they do not close their half
        await server.until(lambda: len(server.site.connections) == 1)
        assert refused(await server.ask(b""))


@pytest_twisted.ensureDeferred
async def test_a_request_that_has_just_arrived_is_not_closed_for_another_ones_sake() -> None:
    async with serving(hold, connections=1) as server:
        first = await connected(server)
        (channel,) = server.site.connections
        channel.transport.pauseProducing()  # type: ignore[union-attr]
        first.send(GET)
        await server.turn()
        assert channel.idle_until() is not None
        assert refused(await server.ask(b""))
        channel.transport.resumeProducing()  # type: ignore[union-attr]
        await server.until(lambda: bool(server.requests))
        server.requests[0].respond(200, [])
        assert (await first.response())[0] == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    class Busy(Channel):
        def __init__(self, host: str) -> None:
            kind = IPv6Address if ":" in host else IPv4Address
            self.client_address = kind("TCP", host, 1) if host else UNIXAddress("")

        def idle_until(self) -> None:
            return None

    admission = Admission(Limits(connections_per_address=1), lambda: 0.0, lambda reason: None)
    assert admission.enter(Busy(one)) is Entry.WELCOME
    assert admission.enter(Busy(other)) is (Entry.TOLD if same else Entry.WELCOME)
