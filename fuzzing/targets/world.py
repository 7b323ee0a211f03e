"""A server without disk and network, to be asked by the short way of plain requests and by the tree."""

from __future__ import annotations

import os
import re
from functools import cache
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from aisobj import signing
from aisobj.metrics import Gauges, Metrics
from aisobj.model import Attributes, BucketProps, Checksum, VersioningStatus
from aisobj.protocol.conditions import WritePrecondition
from aisobj.root import RootResource
from aisobj.s3.call import Context
from aisobj.s3.plain import shortcuts
from aisobj.storage.ids import IdMaker, id_time
from aisobj.storage.memory_blobs import MemoryBlobs
from aisobj.storage.memory_index import MemoryIndex
from aisobj.storage.store import ObjectStore
from aisobj.web.accesslog import _line
from aisobj.web.auditlog import AuditLog
from aisobj.web.auth import Authenticator
from aisobj.web.channel import Channel
from aisobj.web.health import State
from aisobj.web.limits import Limits
from aisobj.web.request import Ended, PlainRequest, Request
from aisobj.web.site import Site
from fuzzing.target import demand
from fuzzing.targets.heads import Transport
from fuzzing.targets.signatures import ACCESS_KEY, NOW, SECRET, USERS, signature_of

HOST = b"127.0.0.1:8080"
_INLINE = 64
_OBJECTS = {
    b"small": (b"hello", Attributes()),
    b"a/b.c~d": (b"<p>", Attributes("text/html; charset=utf-8")),
    b"empty": (b"", Attributes()),
    b"named": (b"x", Attributes("image/png", {"cache-control": "no-store", "x-amz-meta-a": "b"})),
    b"many": (b"x", Attributes("", {f"x-amz-meta-{number}": "v" * 40 for number in range(9)})),
    b"large": (b"0123456789" * 20, Attributes()),
    b"summed": (b"hello", Attributes("text/plain", checksum=Checksum("CRC32", b"\x36\x10\xa6\x86"))),
}
_BUCKETS = {
    "bck": BucketProps(),
    "versions": BucketProps(versioning_status=VersioningStatus.ENABLED, versioning_enabled=True),
    "checked": BucketProps(validate_warm_get=True),
    "unsummed": BucketProps(checksum_type="none"),
}

_without_request_ids = re.compile(r"\b[0-9A-F]{16}\b").sub


class _Ids(IdMaker):
    """Those of two worlds in which the same happens are the same."""

    def __init__(self) -> None:
        super().__init__(lambda: int(NOW * 1e9))

    def make(self, after: int = 0) -> bytes:
        return super().make(after)[:8] + bytes(8)

    def reset(self, last: int) -> None:
        self._last = last


class World:
    """One store, open and closed.

    :param short: whether plain requests have their short way.
    :ivar sites: the open one, and that which wants signatures, by whether it is open.
    """

    def __init__(self, short: bool) -> None:
        self.clock = Clock()
        self.index = MemoryIndex()
        self._ids = ids = _Ids()
        self.blobs = MemoryBlobs(ids)
        store = ObjectStore(self.index, self.blobs, self.clock, ids, inline_limit=_INLINE)
        for name, props in _BUCKETS.items():
            now(store.buckets.create(name, "owner", props))
            for key, (body, attributes) in _OBJECTS.items():
                writer = store.objects.writer(store.buckets.get(name), (), len(body))
                now(writer.write(body))
                written = now(writer.finish({"bucket": name.encode(), "key": key}))
                now(store.objects.put(name, key, written, attributes, WritePrecondition.none))
        self._ended: list[Ended] = []
        self._audited: list[bytes] = []
        self.sites = {is_open: self._site(store, is_open, short) for is_open in (False, True)}
        self._first_rows = self.rows()
        self._first_id = ids.make()

    def _site(self, store: ObjectStore, is_open: bool, short: bool) -> Site:
        audit_log = AuditLog(os.devnull, lambda: NOW, {})
        audit_log._file = self  # type: ignore[assignment]
        site = Site(Resource(), self.clock, Limits(head_bytes=4096, headers=20), audit_log=audit_log)
        authenticator = Authenticator(None if is_open else USERS, "", lambda: NOW)
        context = Context(store, authenticator, BucketProps(), lambda call, *given: succeed(call(*given)))
        site.root = RootResource(context, State(), Metrics(Gauges), Gauges)
        if short:
            site.shortcuts.update(shortcuts(context))
        site.observers.append(self._ended.extend)
        return site

    def write(self, line: bytes) -> None:
        """We are the file of the audit log."""
        self._audited.append(line)

    def ask(self, is_open: bool, *pieces: bytes) -> tuple[str, list[str]]:
        """What was sent and logged when ``pieces`` came, one after the other, on a connection of their own."""
        self._forget()
        channel, transport = self.connect(is_open)
        for piece in pieces:
            channel.dataReceived(piece)
        for _ in range(4):  # a listing is made in slices
            waiting = self.clock.getDelayedCalls()
            if not waiting or waiting[0].getTime() > self.clock.seconds():
                break
            self.clock.advance(0.0)
        sent = transport.value().decode("latin-1")
        channel.connectionLost()
        return _without_ids_of(self._requests(), sent), self.logged()

    def connect(self, is_open: bool) -> tuple[Channel, Transport]:
        """A client of one of the sites."""
        channel, transport = self.sites[is_open].buildProtocol(None), Transport()
        channel.makeConnection(transport)  # type: ignore[no-untyped-call]
        return channel, transport

    def plain(self) -> int:
        """How many requests have taken the short way since the last :meth:`ask` began, or :meth:`reset`."""
        return sum(isinstance(request, PlainRequest) for request in self._requests())

    def _requests(self) -> list[Request]:
        """Those that have ended."""
        for site in self.sites.values():
            site.flush()
        return [request for request, _, _ in self._ended]

    def _forget(self) -> None:
        self._requests()
        self._ended.clear()
        self._audited.clear()

    def logged(self) -> list[str]:
        """The lines of both logs, without ids, since the last :meth:`ask` or :meth:`reset`."""
        requests = self._requests()
        lines = [_line(request, "now", 0.0) for request in requests]
        lines += [line.decode("ascii") for line in self._audited]
        return [_without_ids_of(requests, line) for line in lines]

    def rows(self) -> dict[bytes, dict[bytes, bytes]]:
        """All that the index holds, by partition."""
        return self.index.rows()

    def reset(self) -> None:
        """Be as it was in the beginning. No connection is open."""
        self._forget()
        self.index.reset(self._first_rows)
        self._ids.reset(id_time(self._first_id))
        now(self.blobs.remove(now(self.blobs.newer_than(self._first_id))))


@cache
def worlds() -> tuple[World, World]:
    """With the short way and without."""
    return World(True), World(False)


def signed_lines(method: bytes, target: bytes, how: int, lines: list[bytes], body: bytes = b"") -> list[bytes]:
    """The head's lines as some byte ``how`` wants them: as they are, or with a right signature (of every ``x-amz-*``,
    of all that there is, or of too little), with names as botocore writes them or in lower case."""
    if how & 4 or not how & 8:
        return lines
    path, _, query = target.partition(b"?")
    fields = [(name.lower(), value.strip()) for name, colon, value in (line.partition(b":") for line in lines) if colon]
    to_sign = [(b"host", HOST)]
    if how & (16 | 128) != 16 | 128:
        to_sign += [field for field in fields if how & 16 or field[0].startswith(b"x-amz-")]
    payload = signing.UNSIGNED_PAYLOAD if how & 32 else sha256(body).hexdigest()
    added = signing.sign_headers(
        method, path, query, to_sign, payload, access_key=ACCESS_KEY, secret=SECRET, region="us-east-1", now=NOW
    )
    spelled = [(name if how & 128 else name.title().replace(b"Sha", b"SHA"), value) for name, value in added]
    return [*lines, *(b"%b: %b" % field for field in spelled)]


def now(running: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    if running is None:
        return None
    found: list[Any] = []
    deferred = running if isinstance(running, Deferred) else Deferred.fromCoroutine(running)
    deferred.addCallback(found.append)
    demand(len(found) == 1, "the engine in memory does not wait", deferred)
    return found[0]


def _without_ids_of(requests: list[Request], text: str) -> str:
    for request in requests:
        text = text.replace(request.request_id, "ID")
    return text


def without_ids(transport: Transport) -> str:
    """What was sent, but for what tells one request from another."""
    return _without_request_ids("ID", transport.value().decode("latin-1"))


def presigned(method: bytes, target: bytes, how: int) -> bytes:
    """The target as some byte ``how`` wants it: as it is, or with a right signature, as botocore orders it or as others
    do."""
    if not how & 4:
        return target
    path, _, query = target.partition(b"?")
    day, time = (b"20130524", b"T000000Z") if how & 32 else (b"20130523", b"T235959Z")
    names, expires = b"X-Amz-SignedHeaders=host", b"X-Amz-Expires=%d" % (60 if how & 16 else 604800)
    parameters = [
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256",
        b"X-Amz-Credential=%b%%2F%b%%2Fus-east-1%%2Fs3%%2Faws4_request" % (ACCESS_KEY.encode(), day),
        b"X-Amz-Date=" + day + time,
        *((names, expires) if how & 128 else (expires, names)),
    ]
    query = b"&".join([*parameters, *([query] if query and how & 8 else [])])
    right = signature_of(method, path, query, [(b"host", HOST)], signing.UNSIGNED_PAYLOAD)
    return path + b"?" + query + b"&X-Amz-Signature=" + right
