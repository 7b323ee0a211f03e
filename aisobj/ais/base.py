"""What all resources under ``/v1`` have in common: who may come in, queries, action messages, errors as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource

from aisobj.ais import errors
from aisobj.errors import S3Error
from aisobj.model import BucketProps
from aisobj.protocol import names
from aisobj.protocol.query import Query, parse_query
from aisobj.protocol.signing import Authenticated
from aisobj.storage.store import ObjectStore
from aisobj.web.auth import Authenticator
from aisobj.web.rendering import OperationResource
from aisobj.web.request import Request
from aisobj.web.upload import read_document

#: Messages are a few hundred bytes.
MAX_MESSAGE = 1 << 20

#: AIStore's other providers, by every name that its clients use, and their URI schemes (``api/apc/provider.go``).
_REMOTE = dict(aws="s3", s3="s3", gcp="gs", gs="gs", azure="az", az="az", oci="oc", oc="oc", ht="ht")
#: "" and these name the only namespace there is.
_GLOBAL_NAMESPACE = frozenset({"", "@#"})
#: Parameters without a meaning where there is neither a remote backend nor a cluster.
_HARMLESS = frozenset(
    {"provider", "namespace", "latest-ver", "synchronize", "skip_vc", "dont_head_rbck", "dont_add_rbck", "silent"}
)
_SIGNATURE = frozenset({"AWSAccessKeyId", "Signature", "Expires"})


class ActionMessage(msgspec.Struct):
    """``apc.ActMsg``: what to do, and with what."""

    action: str = ""
    name: str = ""
    value: Any = None


_decode_message = msgspec.json.Decoder(ActionMessage).decode


def read_message(body: bytes) -> ActionMessage:
    """The action message in a body, an empty one if there is none. Raises InvalidRequest."""
    if not body.strip():
        return ActionMessage()
    try:
        return _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise S3Error("InvalidRequest", f"failed to unmarshal the action message: {error}") from None


@dataclass(frozen=True, slots=True)
class Context:
    """What all ``/v1`` resources of a server share."""

    store: ObjectStore
    authenticator: Authenticator
    props: BucketProps  #: of new buckets


class Call:
    """One request that was let in. ``bucket`` and ``key`` are checked; "" and b"" where the path has none."""

    __slots__ = ("auth", "bucket", "context", "key", "query", "request")

    def __init__(
        self, context: Context, request: Request, auth: Authenticated, query: Query, bucket: str, key: bytes
    ) -> None:
        self.context = context
        self.request = request
        self.auth = auth
        self.query = query
        self.bucket = bucket
        self.key = key

    @property
    def store(self) -> ObjectStore:
        return self.context.store

    async def message(self) -> ActionMessage:
        """The action message in the body, an empty one if there is no body. Raises S3Error."""
        return read_message(await read_document(self.request, self.auth, MAX_MESSAGE))

    def send(self, *headers: tuple[bytes, bytes]) -> None:
        """200 without a body."""
        self.request.respond(200, headers)

    def send_json(self, value: object) -> None:
        """200 with a document."""
        self.request.respond(200, (errors.JSON,), msgspec.json.encode(value))


Handler = Callable[[Call], Coroutine[Deferred[Any], Any, None]]


class NativeResource(OperationResource):
    """Base: authenticates before anything else is looked at, then hands the call to the handler of its method.

    A subclass names its part of the path, its ``handlers``, and overrides :meth:`target` where the path goes on.
    """

    #: of the access log and the metrics, with the method: ``GetV1Objects``
    label = ""
    handlers: dict[bytes, Handler] = {}

    def __init__(self, context: Context) -> None:
        Resource.__init__(self)
        self.context = context

    def handle(self, request: Request) -> Deferred[None] | None:
        request.operation = f"{request.method.decode('latin-1').capitalize()}{self.label}"
        auth = self.context.authenticator.authenticate(request)
        query = parse_query(request.query)
        bucket, key = self.target(request)
        request.bucket, request.key = bucket, key
        if bucket:
            _check_provider(query, bucket)
        handler = self.handlers.get(request.method)
        if handler is None:
            raise method_not_allowed(request, self.handlers)
        return Deferred.fromCoroutine(handler(Call(self.context, request, auth, query, bucket, key)))

    def target(self, request: Request) -> tuple[str, bytes]:
        """Bucket and key that the path names."""
        return "", b""

    def name_what_was_asked(self, request: Request) -> None:
        if request.bucket is None:
            with contextlib.suppress(S3Error):
                request.bucket, request.key = self.target(request)

    def render_error(self, request: Request, error: S3Error) -> None:
        errors.respond(request, error, unsigned=not self.context.authenticator.open and not _is_signed(request))


def split(request: Request, prefix: bytes) -> tuple[str, bytes]:
    """Bucket and key behind ``prefix``, checked. Raises InvalidURI, InvalidBucketName, and of ``check_key``."""
    bucket, key = names.split_target(request.path, prefix)
    return bucket or "", key or b""


def _check_provider(query: Query, bucket: str) -> None:
    """This server has AIStore's own buckets in the global namespace, and no others.

    :raises S3Error: NoSuchBucket in the words for a remote bucket, InvalidRequest, NotImplemented.
    """
    provider = query.get("provider") or "ais"
    if provider != "ais":
        scheme = _REMOTE.get(provider)
        if scheme is None:
            raise S3Error("InvalidRequest", f'invalid backend provider "{provider}"')
        raise S3Error("NoSuchBucket", f'bucket "{scheme}://{bucket}" does not exist')
    if (query.get("namespace") or "") not in _GLOBAL_NAMESPACE:
        raise errors.not_implemented("a namespace other than the global one")


def is_remote_provider(provider: str) -> bool:
    """Whether it is one of AIStore's that this server has no buckets of. Raises InvalidRequest for an unknown one."""
    if provider in ("", "ais"):
        return False
    if provider not in _REMOTE:
        raise S3Error("InvalidRequest", f'invalid backend provider "{provider}"')
    return True


def admit_parameters(query: Query, *own: str) -> None:
    """Default deny, for what writes: a parameter may ask for another operation (``?append_type``, ``?archpath``).

    :raises S3Error: NotImplemented for a parameter that is neither one's own nor without meaning here.
    """
    for name, _ in query.pairs:
        if not (name in _HARMLESS or name in own or name in _SIGNATURE or name.lower().startswith("x-amz-")):
            raise errors.not_implemented(f'the query parameter "{name}"')


def method_not_allowed(request: Request, handlers: dict[bytes, Handler]) -> S3Error:
    allowed = b", ".join(sorted(handlers)).decode("ascii")
    method = request.method.decode("latin-1")
    return S3Error("MethodNotAllowed", f"method {method} is not allowed here", headers={"Allow": allowed})


def _is_signed(request: Request) -> bool:
    authorization = request.header(b"authorization")
    return b"Signature=" in request.query if authorization is None else not authorization.startswith(b"Bearer")
