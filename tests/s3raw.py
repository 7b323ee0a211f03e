"""S3 requests made by hand and sent over a raw socket, and the answers as they came.

What an SDK would never send (or repair) is written out here byte by byte. Requests are signed by
``aisobj.signing.sign_headers``, which has AWS's published vectors for tests of its own; signatures inside a body are
made by ``reliability.handmade``.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit
from xml.etree import ElementTree

from aisobj import signing
from reliability.handmade import STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, Signature, User, aws_chunked

__all__ = ["STREAMING", "STREAMING_TRAILER", "UNSIGNED_TRAILER", "User"]  # here for those who import them from here

HANG = 30.0  #: seconds; nothing here needs a fifth of it

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"

Fields = Sequence[tuple[str, str | bytes]]


def user_of(server: Any) -> User | None:
    """The user ``alice`` of a server of ``conftest``; None of an open one."""
    return None if server.credentials is None else User(*server.credentials["alice"])


class Answer(NamedTuple):
    """One response, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)

    def element(self, name: str) -> str | None:
        """Text of the first such element, whatever its namespace."""
        found = next((e for e in self.xml.iter() if e.tag.rpartition("}")[2] == name), None)
        return None if found is None else found.text or ""

    @property
    def code(self) -> str:
        """The error's code, "" where the answer is none."""
        return (self.element("Code") or "") if self.status >= 300 and self.body else ""


class Wire:
    """One connection."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=HANG)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """A server that has answered may close before it has read all: that is no error."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def end(self) -> None:
        """Close the sending half."""
        self._socket.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._data += data
        return bool(data)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken

    def _take_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._data:
            if not self._more():
                raise EOFError(f"the connection was closed within a head: {bytes(self._data)!r}")
        first, *lines = self._take(self._data.index(b"\r\n\r\n") + 4)[:-4].split(b"\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.decode("latin-1").partition(": ")
            assert name.lower() not in fields, f"{name} comes twice"
            fields[name.lower()] = value
        return int(first.split(b" ")[1]), fields

    def answer(self, method: str = "GET") -> Answer:
        """The next response; ``method`` is that of its request. ``100 Continue`` counts as one."""
        status, fields = self._take_head()
        if method == "HEAD" or status in (100, 204, 304):
            return Answer(status, fields, b"")
        length = int(fields["content-length"])
        while len(self._data) < length:
            if not self._more():
                raise EOFError(f"the connection was closed after {len(self._data)} of {length} bytes")
        return Answer(status, fields, self._take(length))

    def closed(self) -> bool:
        """Whether the server closes now, with not one byte more."""
        return not self._data and not self._more()

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self._socket.settimeout(seconds)
        try:
            return not self._data and not self._more() and False
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(HANG)


class Sender:
    """Makes requests to one server, each signed by ``user`` unless that is None.

    :ivar signature: of the last request that was built.
    """

    def __init__(self, endpoint: str, user: User | None = None, region: str = "us-east-1") -> None:
        self.endpoint = endpoint
        self.host = urlsplit(endpoint).netloc
        self.user = user
        self.region = region
        self.signature = Signature(b"", b"", b"", b"")

    def head(
        self,
        method: str,
        target: str,
        headers: Fields = (),
        *,
        payload: str = signing.EMPTY_SHA256,
        length: int | None = None,
        later: Fields = (),
        now: float | None = None,
    ) -> bytes:
        """A request's head.

        :param payload: ``x-amz-content-sha256``.
        :param length: adds Content-Length.
        :param later: headers that are added when the signature is made.
        """
        path, _, query = target.partition("?")
        fields = [(name.lower().encode(), v if isinstance(v, bytes) else v.encode()) for name, v in headers]
        if not any(name == b"host" for name, _ in fields):
            fields.insert(0, (b"host", self.host.encode()))
        if self.user is not None:
            added = signing.sign_headers(
                method.encode(),
                path.encode(),
                query.encode(),
                fields,
                payload,
                access_key=self.user.access_key,
                secret=self.user.secret,
                region=self.region,
                now=time.time() if now is None else now,
            )
            self._remember(dict(added))
            fields += added
        elif payload != signing.EMPTY_SHA256:
            fields.append((b"x-amz-content-sha256", payload.encode()))
        fields += [(name.lower().encode(), v if isinstance(v, bytes) else v.encode()) for name, v in later]
        if length is not None:
            fields.append((b"content-length", str(length).encode()))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        return f"{method} {target} HTTP/1.1\r\n".encode() + lines + b"\r\n"

    def _remember(self, added: dict[bytes, bytes]) -> None:
        assert self.user is not None
        amz_date = added[b"x-amz-date"]
        scope = b"/".join((amz_date[:8], self.region.encode(), b"s3", b"aws4_request"))
        key = signing.signing_key(self.user.secret, amz_date[:8], self.region.encode())
        self.signature = Signature(key, amz_date, scope, added[b"authorization"].rpartition(b"Signature=")[2])

    def request(self, method: str, target: str, headers: Fields = (), body: bytes = b"", **options: Any) -> bytes:
        """Head and body, with the length and the hash of the body unless ``options`` say otherwise."""
        options.setdefault("payload", hashlib.sha256(body).hexdigest())
        if body or method in ("PUT", "POST", "PATCH"):
            options.setdefault("length", len(body))
        return self.head(method, target, headers, **options) + body

    def ask(self, method: str, target: str, headers: Fields = (), body: bytes = b"", **options: Any) -> Answer:
        """One request on a connection of its own."""
        return self.send(self.request(method, target, headers, body, **options), method)

    def send(self, data: bytes, method: str = "GET", *, end: bool = False) -> Answer:
        """The answer to these bytes. ``end``: nothing follows them, and the server is told."""
        with self.connect() as wire:
            wire.send(data)
            if end:
                wire.end()
            return wire.answer(method)

    def connect(self) -> Wire:
        return Wire(self.endpoint)

    def put_chunked(
        self,
        target: str,
        chunks: Iterable[bytes],
        *,
        mode: str = UNSIGNED_TRAILER,
        trailers: Iterable[tuple[str, str]] = (),
        headers: Fields = (),
        decoded_length: int | None = None,
        change: Any = None,
    ) -> Answer:
        """A PUT whose body is coded as ``aws-chunked``.

        :param trailers: what is sent; the first is also announced, unless ``headers`` have ``x-amz-trailer``.
        :param change: what to do to the finished body: bytes -> bytes.
        """
        chunks, trailers = list(chunks), list(trailers)
        fields = [("content-encoding", "aws-chunked"), *headers]
        size = sum(map(len, chunks)) if decoded_length is None else decoded_length
        if decoded_length != -1:
            fields.append(("x-amz-decoded-content-length", str(size)))
        if trailers and not any(name == "x-amz-trailer" for name, _ in headers):
            fields.append(("x-amz-trailer", trailers[0][0]))
        draft = self.head("PUT", target, fields, payload=mode)
        coded = [(name.encode(), value.encode()) for name, value in trailers]
        body = aws_chunked(chunks, mode, self.signature, coded)
        if change is not None:
            body = change(body)
        return self.send(draft[:-2] + f"content-length: {len(body)}\r\n\r\n".encode() + body, "PUT", end=True)
