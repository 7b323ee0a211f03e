"""One S3 request with what the handlers need, and the resource that makes it and finds the handler.

Order for every request but a preflight, which is refused whoever asks: who is asking, before anything else is looked
at (an unauthenticated request learns nothing); then what is asked (``protocol.operations``: default deny); then the
names; then the handler.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from aisobj.errors import S3Error
from aisobj.model import Bucket, BucketProps
from aisobj.protocol import cors, names
from aisobj.protocol.operations import Level, Operation, admit, find
from aisobj.protocol.query import EMPTY, Query, parse_query
from aisobj.protocol.signing import Authenticated
from aisobj.storage.store import ObjectStore
from aisobj.web.auth import Authenticator
from aisobj.web.rendering import OperationResource
from aisobj.web.request import Request

XML = (b"Content-Type", b"application/xml")

#: Documents up to this many bytes are read at once, which takes at most some 10 ms. Longer ones, of many keys, are read
#: in a thread: the others are served meanwhile. (The one of a Complete is read in slices, however long it is.)
_SHORT_DOCUMENT = 1 << 16

# For every request. In Python 3.11 an Enum looks its members up by a function, and bytes are found after a TypeError.
_SERVICE, _OBJECT = Level.SERVICE, Level.OBJECT
_PERCENT = ord("%")

T = TypeVar("T")

#: Where buckets are, if nothing else was configured: what AWS calls its first region.
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Context:
    """What all S3 resources of a server share."""

    store: ObjectStore
    authenticator: Authenticator
    props: BucketProps  #: of new buckets
    in_thread: Callable[..., Deferred[Any]]  #: (call, *arguments) -> its result; for what computes long
    region: str = ""  #: the only one accepted, or ""
    owner: str = "ais-s3"


class Call:
    """One request. ``bucket_name`` is "" at the service, ``key`` is b"" at a bucket."""

    __slots__ = ("auth", "bucket_name", "context", "key", "operation", "query", "request")

    def __init__(
        self,
        context: Context,
        request: Request,
        auth: Authenticated,
        query: Query,
        operation: Operation,
        bucket_name: str,
        key: bytes,
    ) -> None:
        self.context = context
        self.request = request
        self.auth = auth
        self.query = query
        self.operation = operation
        self.bucket_name = bucket_name
        self.key = key

    @property
    def store(self) -> ObjectStore:
        return self.context.store

    def bucket(self) -> Bucket:
        """Raises NoSuchBucket."""
        return self.context.store.buckets.get(self.bucket_name)

    def text_header(self, name: str) -> str | None:
        """A request header as text, in the form that ``protocol.conditions`` asks for; also one that was moved into the
        query when a URL was presigned."""
        value = self.request.header(name.encode("latin-1"))
        if value is None and self.query is not EMPTY:
            value = self.query.hoisted_header(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def object_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers, and those that were moved into the query when a URL was presigned. (boto's SigV2 moves them and
        has them sent all the same.)"""
        headers = self.request.raw_headers
        moved = self.query.hoisted()
        return [*headers, *(field for field in moved if self.request.header(field[0]) is None)] if moved else headers

    async def read(self, document: bytes, reader: Callable[[bytes], T]) -> T:
        """``reader(document)``, one of ``protocol.xml``'s."""
        if len(document) <= _SHORT_DOCUMENT:
            return reader(document)
        result: T = await self.context.in_thread(reader, document)
        return result

    def now_ns(self) -> int:
        """The request's time."""
        return int(self.request.started * 1e9)

    def send_xml(self, document: bytes, *headers: tuple[bytes, bytes]) -> None:
        """200 with a document."""
        self.request.respond(200, (XML, *headers), document)

    def send_empty(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        """An answer without a body."""
        self.request.respond(status, headers)


#: Answers the call: at once, as a coroutine, or when a Deferred fires; raises S3Error.
Handler = Callable[[Call], Coroutine[Deferred[Any], Any, None] | Deferred[None] | None]


class S3Resource(OperationResource):
    """Base of the service, a bucket and an object."""

    level: Level
    handlers: Mapping[str, Handler]

    def __init__(self, context: Context, bucket_name: str = "") -> None:
        # Not Resource.__init__: these have no children to keep.
        self.context = context
        self.bucket_name = bucket_name

    def handle(self, request: Request) -> Deferred[None] | None:
        request.bucket = self.bucket_name
        if request.method == b"OPTIONS":  # a browser's question, which is never signed
            request.operation = cors.PREFLIGHT
            raise cors.preflight_refusal(request.header(b"origin"), request.header(b"access-control-request-method"))
        auth = self.context.authenticator.authenticate(request)
        query = EMPTY if auth.only_signature else parse_query(request.query)
        return self.perform(request, auth, query, find(self.level, request.method, query, request.header))

    def perform(
        self, request: Request, auth: Authenticated, query: Query, operation: Operation
    ) -> Deferred[None] | None:
        """Answer a request of somebody who may come in, at once (None) or later. May raise."""
        request.operation = operation.name
        if query is not EMPTY or not request.has_none_of(operation.guard.names) or not operation.implemented:
            admit(operation, query, request.header)
        self.check_names(request)
        call = Call(self.context, request, auth, query, operation, self.bucket_name, request.key)
        running = self.handlers[operation.name](call)
        return running if running is None or isinstance(running, Deferred) else Deferred.fromCoroutine(running)

    def check_names(self, request: Request) -> None:
        """Raises InvalidURI, InvalidBucketName, KeyTooLongError, InvalidArgument."""
        if _PERCENT in request.path:
            names.decode_path(request.path)
        if self.level is not _SERVICE:
            names.check_bucket_name(self.bucket_name)
        if self.level is _OBJECT:
            names.check_key(request.key)

    def name_what_was_asked(self, request: Request) -> None:
        if request.operation is None:
            with contextlib.suppress(S3Error):
                request.operation = find(self.level, request.method, parse_query(request.query), request.header).name

    def render_error(self, request: Request, error: S3Error) -> None:
        request.fail(error)
