"""A header that comes twice: one list, or one thing that is said twice, or a request that can be read in two ways."""

from __future__ import annotations

import pytest
import pytest_twisted
from rawhttp import code_of, hello, serving, with_headers

SINGLE = [
    *(b"Authorization", b"Content-MD5", b"Content-Type", b"Content-Disposition", b"Date", b"Expires", b"Range"),
    *(b"If-Range", b"If-Modified-Since", b"If-Unmodified-Since", b"Origin", b"Sec-Fetch-Site", b"Referer"),
    *(b"X-Amz-Date", b"X-Amz-Content-SHA256", b"X-Amz-Decoded-Content-Length", b"X-Amz-Security-Token"),
    *(b"X-Amz-Copy-Source", b"X-Amz-Copy-Source-Range", b"X-Amz-Copy-Source-If-Match", b"X-Amz-Trailer"),
    *(b"X-Amz-Checksum-CRC32", b"X-Amz-SDK-Checksum-Algorithm", b"X-Amz-Server-Side-Encryption"),
    *(b"Ais-Checksum-Type", b"Ais-Checksum-Value", b"Access-Control-Request-Method"),
]


@pytest.mark.parametrize("name", SINGLE)
@pytest_twisted.ensureDeferred
async def test_what_says_one_thing_may_be_said_twice_but_not_otherwise(name: bytes) -> None:
    async with serving(hello) as server:
        for one, other in ((b"a", b"b"), (b"", b"b"), (b"a", b"A")):
            client = await server.connect(with_headers(name + b": " + one, b"A: b", name.lower() + b": " + other))
            status, headers, body = await client.response()
            assert (status, code_of(body), headers.get(b"connection")) == (400, b"InvalidRequest", b"close")
            await client.closed()
        assert server.requests == []
        client = await server.connect(with_headers(name + b": a", name.lower() + b":a "))
        assert (await client.response())[0] == 200
        assert server.requests[0].header(name.lower()) == b"a"


@pytest.mark.parametrize("name", [b"If-Match", b"If-None-Match", b"Accept", b"X-Amz-Meta-A", b"Via"])
@pytest_twisted.ensureDeferred
async def test_what_is_a_list_may_come_in_several_lines(name: bytes) -> None:
    async with serving(hello) as server:
        client = await server.connect(with_headers(name + b": a", b"A: b", name + b": b, c"))
        assert (await client.response())[0] == 200
        assert server.requests[0].header(name.lower()) == b"a, b, c"
