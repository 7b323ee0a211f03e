"""Plain requests, by their short way past the resource tree and by the tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from s3raw import Answer, Wire
from storekit import Rig
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from aisobj.model import BucketProps
from aisobj.s3.call import Context
from aisobj.s3.plain import shortcuts
from aisobj.web.auth import Authenticator
from aisobj.web.site import Site
from fuzzing.targets.heads import Transport

#: As curl, requests, Go and wrk write their heads.
CLIENTS = [
    "",
    "User-Agent: curl/8.14.1\r\nAccept: */*\r\n",
    "User-Agent: python-requests/2.32\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n",
    "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n",
    "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.12\r\n",
]
#: No client sends it, and the short way does not know it.
LONG_WAY = "X-Long-Way: 1\r\n"


class Presigner:
    """Raw requests with presigned URLs, each on a connection of its own."""

    def __init__(self, server: Any, s3: Any) -> None:
        self._endpoint = server.endpoint
        self._s3 = s3

    def url(self, method: str, bucket: str, key: str) -> str:
        url: str = self._s3.generate_presigned_url(
            {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}[method],
            {"Bucket": bucket, "Key": key},
        )
        return url

    def ask(self, method: str, url: str, lines: str = "", body: bytes = b"") -> Answer:
        with Wire(self._endpoint) as wire:
            wire.send(request(method, url, lines) + body)
            return wire.answer(method)


def request(method: str, url: str, lines: str = "") -> bytes:
    """The head of one."""
    parts = urlsplit(url)
    return f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode()


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What must be the same each time."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-amz-request-id")}
    return answer.status, headers, answer.body.replace(answer.headers["x-amz-request-id"].encode(), b"")


class Nobody(Resource):
    """A tree that is asked."""

    asked = 0

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:
        self.asked += 1
        raise RuntimeError("the tree is asked")


@contextmanager
def channel(rig: Rig) -> Iterator[tuple[Any, Transport, Nobody]]:
    tree = Nobody()
    site = Site(tree, Clock())
    context = Context(rig.store, Authenticator(None, "", lambda: 0.0), BucketProps(), in_thread=None)  # type: ignore[arg-type]
    site.shortcuts.update(shortcuts(context))
    made, transport = site.buildProtocol(None), Transport()
    made.makeConnection(transport)  # type: ignore[no-untyped-call]
    try:
        yield made, transport, tree
    finally:
        made.connectionLost()
