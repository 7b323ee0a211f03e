"""The head of a request, and the connection that cuts requests out of a stream."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from aisobj.errors import S3Error
from aisobj.web.head import Head, RawHeaders, check_beginning, parse_head
from aisobj.web.limits import Limits
from aisobj.web.request import Request
from aisobj.web.site import Site
from fuzzing.target import Label, Target, attempt, chance, check_error, demand, kind, pieces, same, single_bytes, words

_LIMITS = Limits(head_bytes=2048, headers=20, chunk_line_bytes=48, trailer_bytes=96)
_END = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"([A-Z-]{1,20}) ([!-\"$-~]+) HTTP/1\.([01])").fullmatch
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*"
).fullmatch


def check_head(data: bytes) -> Label:
    end = data.find(_END)
    if end < 0:
        _, error = attempt(lambda: check_beginning(data, _LIMITS))
        if error is None:
            return "unfinished", len(data).bit_length()
        demand(error.close, "what is no request ends the connection", error)
        whole, other = attempt(lambda: parse_head(data + _END, _LIMITS))
        demand(other is not None, "what is refused in its beginning is no request in the end", data, whole)
        return "beginning", kind(error)
    data = data[: end + len(_END)]
    head, error = attempt(lambda: parse_head(data, _LIMITS))
    if error is not None:
        demand(error.close, "what is no request ends the connection", error)
        return kind(error)
    assert head is not None
    _check_reading(head, data)
    again, error = attempt(lambda: parse_head(_written(head), _LIMITS))
    demand(error is None, "what was read, written again, is read", error, _written(head))
    assert again is not None
    same(_summary(again), _summary(head), "and is the same")
    return head.method, head.http11, head.keep_alive, head.length, head.expects_continue, len(head.headers)


def _check_reading(head: Head, data: bytes) -> None:
    """By RFC 9112's grammar, line by line: who reads it strictly reads the same."""
    first, *lines = data.removesuffix(_END).split(b"\r\n")
    match = _REQUEST_LINE(first)
    demand(match is not None, "the request line is well-formed", first)
    assert match is not None
    fields = [_FIELD(line) for line in lines]
    demand(None not in fields, "every header is well-formed", lines)
    read = [(field[1].lower(), field[2]) for field in fields if field is not None]
    same(head.headers, read, "headers are as they stand there")
    same((head.method, head.http11), (match[1], match[3] == b"1"), "the request line is as it stands there")
    names = [name for name, _ in read]
    demand(head.target.startswith(b"/") and match[2].endswith(head.target.removeprefix(b"/")), "a path", head.target)
    demand(names.count(b"host") == 1 or (not head.http11 and b"host" not in names), "one Host", read)
    lengths = [value for name, value in read if name == b"content-length"]
    codings = [value.lower() for name, value in read if name == b"transfer-encoding"]
    demand(len(lengths) + len(codings) <= 1, "one way to find the end", read)
    demand(codings in ([], [b"chunked"]) and (not codings or head.http11), "no coding but chunked", read)
    for single in (b"origin", b"x-amz-date"):
        demand(len({value for name, value in read if name == single}) <= 1, "what says one thing says one", read)
    same(head.length, None if codings else int(lengths[0]) if lengths else 0, "the length is as it stands there")


def _written(head: Head) -> bytes:
    lines = [b"%b %b HTTP/1.%d" % (head.method, head.target, head.http11)]
    # No blank after the colon, as that of an input may have none, and it may be as long as a head can be.
    lines += [name + b":" + value for name, value in head.headers]
    return b"\r\n".join(lines) + _END


def _summary(head: Head) -> object:
    return (head.method, head.target, head.headers, head.length, head.http11, head.keep_alive, head.expects_continue)


# The connection


class Transport(StringTransport):
    """A connection to nowhere."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def loseWriteConnection(self) -> None:
        self.disconnecting = True


class _Root(Resource):
    """Reads every body to its end, then answers; remembers what came."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[list[object]] = []

    def render(self, request: Request) -> int:
        entry: list[object] = [request.method, request.uri, list(request.raw_headers), None]
        self.seen.append(entry)

        def done(body: bytes) -> None:
            entry[3] = body
            request.respond(200, (), b"%d" % len(body))

        def failed(failure: object) -> None:
            error = getattr(failure, "value", None)
            if isinstance(error, S3Error):
                check_error(error)
                request.fail(error)
            else:
                entry[3] = "gone"

        request.body.read(4096).addCallbacks(done, failed)
        return NOT_DONE_YET


_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


def _connection(parts: Iterable[bytes]) -> tuple[list[list[object]], list[int], bool]:
    """The requests seen, the statuses of the answers, and whether the connection was closed before its end."""
    root = _Root()
    site = Site(root, Clock(), _LIMITS)
    channel = site.buildProtocol(None)
    transport = Transport()
    channel.makeConnection(transport)  # type: ignore[no-untyped-call]
    for part in parts:
        if transport.disconnecting or transport.aborted:
            break
        demand(transport.producerState == "producing", "nothing holds it up", transport.producerState)
        channel.dataReceived(part)
    closed = transport.disconnecting or transport.aborted
    answers = _answers(transport.value(), [str(entry[0]) for entry in root.seen])
    channel.connectionLost()
    demand(not site.connections, "a connection that is lost is forgotten")
    return root.seen, answers, closed


def _answers(data: bytes, methods: list[str]) -> list[int]:
    """Statuses, from a stream that is nothing but answers."""
    statuses: list[int] = []
    at = 0
    while at < len(data):
        match = _ANSWER.match(data, at)
        demand(match is not None, "only answers are sent", data[at : at + 200])
        assert match is not None
        at = match.end()
        status = int(match[1])
        if status == 100:
            continue
        length = re.search(rb"(?i)^content-length: (\d+)\r\n", match[2], re.MULTILINE)
        if length is not None and not (len(statuses) < len(methods) and methods[len(statuses)] == repr(b"HEAD")):
            at += int(length[1])
        demand(at <= len(data), "an answer is as long as it says", data)
        demand(status < 500, "input is never the server's fault", data)
        statuses.append(status)
    return statuses


def _waits(entry: list[object]) -> bool:
    """A request that was seen wants ``100 Continue``."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in cast(RawHeaders, entry[2]))


def check_connection(data: bytes) -> Label:
    whole = _connection([data])
    parts = single_bytes(data) if len(data) <= 200 and not chance(data, 4) else pieces(data)
    seen, statuses, closed = _connection(parts)
    if closed and not whole[2] and seen and _waits(seen[-1]):
        # Answered before anything of its body came: nobody knows then whether that will come, so the connection ends.
        whole = whole[0][: len(seen)], whole[1][: len(statuses)], True
    same(seen, whole[0], "any pieces of the same bytes are the same requests")
    same((statuses, closed), whole[1:], "and get the same answers")
    answered = [entry for entry in seen if entry[3] is not None]
    demand(len(answered) <= len(statuses) <= len(seen) + 1, "each request gets one answer", seen, statuses)
    return tuple(statuses), closed, len(seen)


_TOKENS = words(
    r"""
    GET\x20/\x20HTTP/1.1\r\n PUT\x20/b/k\x20HTTP/1.1\r\n HEAD\x20 POST\x20 Host:\x20x\r\n
    Content-Length:\x205\r\n hello Transfer-Encoding:\x20chunked\r\n 5\r\nhello\r\n0\r\n\r\n \r\n\r\n \r\n \n \r
    Connection:\x20close\r\n Connection:\x20keep-alive\r\n Expect:\x20100-continue\r\n Upgrade:\x20h2c\r\n
    HTTP/1.0\r\n http://x/ # \x20 \t :\x20 \r\n\x20 OPTIONS\x20*\x20HTTP/1.1 PRI\x20*\x20HTTP/2.0 CONNECT\x20x:1
    Content-Length:\x200\r\n [::1]:80 chunked ,\x20chunked identity \x0b Proxy-Connection:\x20close\r\n
    Content-Length:\x205,\x205\r\n M-SEARCH\x20 Origin:\x20a\r\n origin:b\r\n X-Amz-Date:\x20a\r\n x-amz-date:b\r\n
    """
)

TARGETS = [
    Target(
        "head",
        check_head,
        "refused, or what RFC 9112's grammar reads; one way to find the body's end; written again it is read again",
        _TOKENS,
        2400,
    ),
    Target(
        "connection",
        check_connection,
        "any pieces of a stream are the same requests, bodies and answers; no 5xx; nothing but answers is sent",
        _TOKENS,
        4096,
    ),
]
