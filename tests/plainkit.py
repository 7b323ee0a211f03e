"""Plain requests, by their short way past the resource tree and by the tree."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5, sha256
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

from s3raw import Answer, Wire
from server import CREDENTIALS
from storekit import Rig
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from aisobj.model import BucketProps
from aisobj.protocol.credentials import Credentials
from aisobj.s3.call import Context
from aisobj.s3.plain import shortcuts
from aisobj.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, sign_headers
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
#: As AWS's SDKs write their heads, with what signs them in its place: for Python, Go (1 and 2), JavaScript, and C++.
SDKS = {
    "python": "Accept-Encoding: identity\r\nx-amz-checksum-mode: ENABLED\r\n"
    "User-Agent: Boto3/1.41.5 md/Botocore#1.41.5 ua/2.1 os/linux#6.1 lang/python#3.11.7\r\n"
    "X-Amz-Date: {date}\r\nX-Amz-Content-SHA256: {payload}\r\nAuthorization: {authorization}\r\n"
    "amz-sdk-invocation-id: 5f1b0d0c-6a3e-4d0c-9f0e-2b6f8a1f3c11\r\namz-sdk-request: attempt=1\r\n",
    "go": "User-Agent: aws-sdk-go/1.44.256 (go1.20.4; linux; amd64)\r\nAuthorization: {authorization}\r\n"
    "X-Amz-Content-Sha256: {payload}\r\nX-Amz-Date: {date}\r\nAccept-Encoding: gzip\r\n",
    "go 2": "User-Agent: aws-sdk-go-v2/1.30 ua/2.1 os/linux lang/go#1.23\r\nAccept-Encoding: identity\r\n"
    "Amz-Sdk-Invocation-Id: 0d4b\r\nAmz-Sdk-Request: attempt=1; max=3\r\nAuthorization: {authorization}\r\n"
    "X-Amz-Checksum-Mode: ENABLED\r\nX-Amz-Content-Sha256: {payload}\r\nX-Amz-Date: {date}\r\n",
    "javascript": "x-amz-user-agent: aws-sdk-js/3.900.0\r\nuser-agent: aws-sdk-js/3.900.0 ua/2.1 lang/js\r\n"
    "amz-sdk-invocation-id: 77\r\namz-sdk-request: attempt=1; max=3\r\nx-amz-date: {date}\r\n"
    "x-amz-content-sha256: {payload}\r\nauthorization: {authorization}\r\nConnection: keep-alive\r\n",
    "c++": "Accept: */*\r\namz-sdk-invocation-id: 8B-1\r\namz-sdk-request: attempt=1\r\n"
    "authorization: {authorization}\r\nuser-agent: aws-sdk-cpp/1.11 ua/2.1 lang/c++#C++11\r\n"
    "x-amz-content-sha256: {payload}\r\nx-amz-date: {date}\r\n",
}
#: The same of PutObject; all headers that begin with ``x-amz-`` are signed, and those that Go signs besides.
SDK_WRITES = {
    "python": "Accept-Encoding: identity\r\nx-amz-sdk-checksum-algorithm: CRC32\r\n"
    "User-Agent: Boto3/1.44.8 md/Botocore#1.44.8 ua/2.1 os/linux#6.1 lang/python#3.11.7\r\nExpect: 100-continue\r\n"
    "X-Amz-Date: {date}\r\nX-Amz-Content-SHA256: {payload}\r\nx-amz-checksum-crc32: {crc32}\r\n"
    "Authorization: {authorization}\r\namz-sdk-invocation-id: 5f1b0d0c\r\namz-sdk-request: attempt=1; max=3\r\n"
    "Content-Length: {length}\r\n",
    "s5cmd": "User-Agent: aws-sdk-go/1.44.298 (go1.22.10; linux; amd64) S3Manager\r\nContent-Length: {length}\r\n"
    "Authorization: {authorization}\r\nContent-Md5: {md5}\r\nContent-Type: application/octet-stream\r\n"
    "X-Amz-Content-Sha256: {payload}\r\nX-Amz-Date: {date}\r\nAccept-Encoding: gzip\r\n",
    "rclone": "User-Agent: rclone/v1.69\r\nContent-Length: {length}\r\nAuthorization: {authorization}\r\n"
    "Content-Md5: {md5}\r\nContent-Type: text/plain; charset=utf-8\r\nX-Amz-Acl: private\r\n"
    "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Date: {date}\r\nX-Amz-Meta-Mtime: 1795698813.415287453\r\n"
    "Accept-Encoding: gzip\r\n",
    "go 2": "User-Agent: aws-sdk-go-v2/1.30 ua/2.1 os/linux lang/go#1.23\r\nContent-Length: {length}\r\n"
    "Accept-Encoding: identity\r\nAmz-Sdk-Invocation-Id: 0d4b\r\nAmz-Sdk-Request: attempt=1; max=3\r\n"
    "Authorization: {authorization}\r\nContent-Type: application/octet-stream\r\nX-Amz-Checksum-Crc32: {crc32}\r\n"
    "X-Amz-Content-Sha256: {payload}\r\nX-Amz-Date: {date}\r\nX-Amz-Sdk-Checksum-Algorithm: CRC32\r\n",
}
USERS = Credentials([("alice", *CREDENTIALS["alice"])])
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


def signed(
    method: str, target: str, host: str, lines: str, now: float, leave_out: frozenset[bytes] = frozenset()
) -> bytes:
    """The head of a request with the lines of one of :data:`SDKS`.

    :param leave_out: headers that are not signed although they should be.
    """
    fields = [
        (name.lower().encode(), value) for name, _, value in (line.partition(": ") for line in lines.split("\r\n"))
    ]
    too = (b"x-amz-checksum-mode", b"x-amz-user-agent", b"amz-sdk-request")
    to_sign = [(b"host", host.encode()), *((name, value.encode()) for name, value in fields if name in too)]
    to_sign = [field for field in to_sign if field[0] not in leave_out]
    payload = UNSIGNED_PAYLOAD if "Accept: " in lines else EMPTY_SHA256
    return _filled(method, target, host, lines, to_sign, payload, now)


def signed_write(target: str, host: str, lines: str, body: bytes, now: float) -> bytes:
    """The head of a PUT of ``body`` with the lines of one of :data:`SDK_WRITES`."""
    told = {
        "length": len(body),
        "md5": b64encode(md5(body).digest()).decode(),
        "crc32": b64encode(crc32(body).to_bytes(4)).decode(),
    }
    kept = {name: f"{{{name}}}" for name in ("date", "payload", "authorization")}
    lines = lines.format(**told, **kept)
    fields = [line.partition(": ")[::2] for line in lines.split("\r\n") if "{" not in line]
    to_sign = [(b"host", host.encode())]
    for name, value in sorted((name.lower(), value) for name, value in fields):
        if name.startswith(("x-amz-", "content-")) and name != "x-amz-content-sha256":
            to_sign.append((name.encode(), value.encode()))
    payload = UNSIGNED_PAYLOAD if UNSIGNED_PAYLOAD in lines else sha256(body).hexdigest()
    return _filled("PUT", target, host, lines, to_sign, payload, now)


def _filled(
    method: str, target: str, host: str, lines: str, to_sign: list[tuple[bytes, bytes]], payload: str, now: float
) -> bytes:
    """The head, with what signs it in its lines."""
    path, _, query = target.partition("?")
    added = sign_headers(
        method.encode(),
        path.encode(),
        query.encode(),
        to_sign,
        payload,
        access_key=CREDENTIALS["alice"][0],
        secret=CREDENTIALS["alice"][1],
        region="us-east-1",
        now=now,
    )
    date, payload, authorization = (value.decode() for _, value in added)
    filled = lines.format(date=date, payload=payload, authorization=authorization)
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{filled}\r\n".encode()


def ask(server: Any, method: str, path: str, lines: str, head: Any = lambda head: head) -> Answer:
    """The answer to a signed request on a connection of its own. ``head`` may change it once it is signed."""
    host = urlsplit(server.endpoint).netloc
    with Wire(server.endpoint) as wire:
        wire.send(head(signed(method, path, host, lines, time.time())))
        return wire.answer(method)


class Nobody(Resource):
    """A tree that is asked."""

    asked = 0

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:
        self.asked += 1
        raise RuntimeError("the tree is asked")


@contextmanager
def channel(rig: Rig, users: Credentials | None = None) -> Iterator[tuple[Any, Transport, Nobody]]:
    tree = Nobody()
    site = Site(tree, Clock())
    context = Context(rig.store, Authenticator(users, "", lambda: 0.0), BucketProps(), in_thread=None)  # type: ignore[arg-type]
    site.shortcuts.update(shortcuts(context))
    made, transport = site.buildProtocol(None), Transport()
    made.makeConnection(transport)  # type: ignore[no-untyped-call]
    try:
        yield made, transport, tree
    finally:
        made.connectionLost()
