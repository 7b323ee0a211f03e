r"""Plain reads, which have a short way past the resource tree: it must give what the tree gives.

An input is ``how METHOD PATH``, then lines of a head. ``how`` is a byte: whether the server is open, whether and how
the URL is presigned, and whether a byte of the head is changed afterwards.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from aisobj import signing
from aisobj.metrics import Gauges, Metrics
from aisobj.model import Attributes, BucketProps, VersioningStatus
from aisobj.protocol.conditions import WritePrecondition
from aisobj.root import RootResource
from aisobj.s3.call import Context
from aisobj.s3.plain import PlainReads
from aisobj.storage.ids import IdMaker
from aisobj.storage.memory_blobs import MemoryBlobs
from aisobj.storage.memory_index import MemoryIndex
from aisobj.storage.store import ObjectStore
from aisobj.web.accesslog import _line
from aisobj.web.auth import Authenticator
from aisobj.web.health import State
from aisobj.web.limits import Limits
from aisobj.web.request import Request
from aisobj.web.site import Site
from fuzzing.target import Label, Target, chance, demand, same, words
from fuzzing.targets.heads import Transport
from fuzzing.targets.signatures import ACCESS_KEY, NOW, USERS, signature_of

_INLINE = 64
_OBJECTS = {
    b"small": (b"hello", Attributes()),
    b"a/b.c~d": (b"<p>", Attributes("text/html; charset=utf-8")),
    b"empty": (b"", Attributes()),
    b"named": (b"x", Attributes("image/png", {"cache-control": "no-store", "x-amz-meta-a": "b"})),
    b"many": (b"x", Attributes("", {f"x-amz-meta-{number}": "v" * 40 for number in range(9)})),
    b"large": (b"0123456789" * 20, Attributes()),
}


class _Sites:
    """One store, and sites over it by (open, with the short way)."""

    def __init__(self) -> None:
        self.clock = clock = Clock()
        ids = IdMaker(lambda: int(NOW * 1e9))
        store = ObjectStore(MemoryIndex(), MemoryBlobs(ids), clock, ids, inline_limit=_INLINE)
        for name, props in (
            ("bck", BucketProps()),
            ("versions", BucketProps(versioning_status=VersioningStatus.ENABLED, versioning_enabled=True)),
            ("checked", BucketProps(validate_warm_get=True)),
        ):
            _now(store.buckets.create(name, "owner", props))
            for key, (body, attributes) in _OBJECTS.items():
                writer = store.objects.writer(store.buckets.get(name), (), len(body))
                _now(writer.write(body))
                written = _now(writer.finish({"bucket": name.encode(), "key": key}))
                _now(store.objects.put(name, key, written, attributes, WritePrecondition.none))
        self.ended: list[Request] = []
        self.sites = {
            (is_open, short): self._site(store, clock, is_open, short)
            for is_open in (False, True)
            for short in (False, True)
        }

    def _site(self, store: ObjectStore, clock: Clock, is_open: bool, short: bool) -> Site:
        site = Site(Resource(), clock, Limits(head_bytes=4096, headers=20))
        authenticator = Authenticator(None if is_open else USERS, "", lambda: NOW)
        context = Context(store, authenticator, BucketProps(), lambda call, *given: succeed(call(*given)))
        site.root = RootResource(context, State(), Metrics(Gauges), Gauges)
        site.shortcut = PlainReads(context) if short else None
        site.observers.append(lambda request, status, seconds: self.ended.append(request))
        return site


@cache
def _sites() -> _Sites:
    return _Sites()


def _now(running: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    if running is None:
        return None
    found: list[Any] = []
    deferred = running if isinstance(running, Deferred) else Deferred.fromCoroutine(running)
    deferred.addCallback(found.append)
    demand(len(found) == 1, "the engine in memory does not wait", deferred)
    return found[0]


def check(data: bytes) -> Label:
    how, head = _head(data)
    if head is None:
        return None
    is_open = how % 3 == 0
    short, plainly = _answer(is_open, True, head)
    long, _ = _answer(is_open, False, head)
    same(short, long, "the short way gives what the tree gives, and its line in the log")
    return plainly, how % 12, short[0][9:12]


def _answer(is_open: bool, short: bool, head: bytes) -> tuple[tuple[str, list[str]], bool]:
    """What was sent and logged, and whether the short way was taken."""
    sites = _sites()
    sites.ended.clear()
    channel = sites.sites[is_open, short].buildProtocol(None)
    transport = Transport()
    channel.makeConnection(transport)  # type: ignore[no-untyped-call]
    channel.dataReceived(head)
    sites.clock.pump([0.0] * 4)  # a listing is made in slices
    sent = transport.value().decode("latin-1")
    lines = [_line(request, "now", 0.0) for request in sites.ended]
    plainly = any(type(request) is not Request for request in sites.ended)
    channel.connectionLost()
    return (_without_ids("ID", sent), [_without_ids("ID", line) for line in lines]), plainly


_without_ids = re.compile(r"[0-9A-F]{16}").sub
_REQUEST = re.compile(rb"(.)(GET|HEAD) (/[!-~]*)\Z", re.DOTALL).match


def _head(data: bytes) -> tuple[int, bytes | None]:
    """The head of one read; None if the input makes none."""
    first, *lines = data.split(b"\n")
    match = _REQUEST(first)
    if match is None or b"#" in first:
        return 0, None
    how, method, target = match[1][0], match[2], match[3]
    host = b"127.0.0.1:8080"
    if how & 4:
        path, _, query = target.partition(b"?")
        target = path + b"?" + _presigned(method, path, query if how & 8 else b"", host, how)
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: " + host, *lines, b"", b""])
    if how & 64:
        at = chance(data, len(head), 1)
        head = head[:at] + bytes([33 + chance(data, 94, 2)]) + head[at + 1 :]
    one = head.count(b"\r\n\r\n") == 1 and head.endswith(b"\r\n\r\n") and head.startswith((b"GET ", b"HEAD "))
    return how, head if one else None


def _presigned(method: bytes, path: bytes, query: bytes, host: bytes, how: int) -> bytes:
    """A query with a right signature, as botocore orders it or as others do."""
    day, time = (b"20130524", b"T000000Z") if how & 32 else (b"20130523", b"T235959Z")
    names, expires = b"X-Amz-SignedHeaders=host", b"X-Amz-Expires=%d" % (60 if how & 16 else 604800)
    parameters = [
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256",
        b"X-Amz-Credential=%b%%2F%b%%2Fus-east-1%%2Fs3%%2Faws4_request" % (ACCESS_KEY.encode(), day),
        b"X-Amz-Date=" + day + time,
        *((names, expires) if how & 128 else (expires, names)),
    ]
    query = b"&".join([*parameters, *([query] if query else [])])
    return query + b"&X-Amz-Signature=" + signature_of(method, path, query, [(b"host", host)], signing.UNSIGNED_PAYLOAD)


TARGETS = [
    Target(
        "plain-read",
        check,
        "the short way for small objects sends, byte for byte, and logs what the resource tree does",
        words(
            r"""
            GET\x20/s3/bck/small HEAD\x20/s3/bck/small /s3/bck/a/b.c~d /s3/bck/empty /s3/bck/named /s3/bck/many
            /s3/bck/large /s3/versions/small /s3/checked/small /s3/nobody/small /s3/bck/nothing /s3/bck/ /s3/bck //
            \nAccept:\x20*/* \nAccept-Encoding:\x20gzip \nUser-Agent:\x20Go-http-client/1.1 \nConnection:\x20keep-alive
            \nConnection:\x20close \nRange:\x20bytes=0-1 \nIf-None-Match:\x20* \nHost:\x20x \nContent-Length:\x200
            \nx-amz-security-token:\x20a \nx-amz-meta-a:\x20b ?versionId=null ?partNumber=1 &response-content-type=a/b
            %2F %41 + . .. ~ \nReferer:\x20http://a/?Signature=b \nOrigin:\x20null \nx-amz-checksum-mode:\x20ENABLED
            """
        ),
    ),
]
