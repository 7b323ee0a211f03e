"""A client of AIStore's native API (``/v1``), on treq: what the ``ais`` command speaks.

Bodies stream in both directions: an upload reads its source in a thread, block by block, and a download hands each
block to a callback. Neither ever holds a whole object.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IReactorCore, IReactorTCP, IReactorThreads, IReactorTime
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse

from aisobj import signing
from aisobj.checksums import CHECKSUM_TYPES, Digest, new_digest

_CONNECT_SECONDS = 15
_MSGPACK = "application/msgpack"
Body = IBodyProducer | bytes
_FAILURES = (ResponseFailed, RequestTransmissionFailed, ConnectionClosed, ConnectionLost)


class IClientReactor(IReactorCore, IReactorTCP, IReactorThreads, IReactorTime):
    """What a client needs of a reactor."""


class ClientError(Exception):
    """Something went wrong; the text is one line for a human being."""


class ApiError(ClientError):
    """The server answered with an error.

    :ivar status: the HTTP status.
    :ivar tcode: AIStore's name of the error, e.g. ``ErrBckNotFound``; "" if the answer was not in its form.
    """

    def __init__(self, status: int, message: str, tcode: str = "") -> None:
        self.status = status
        self.tcode = tcode
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests with SigV4, as S3 has it."""

    access_key: str
    secret: str = field(repr=False)
    region: str

    def sign(self, method: str, url: str, host: str, payload_hash: str) -> dict[str, str]:
        """The headers to add to a request; ``host`` is its Host header, the one header of ours that is signed too."""
        parts = urlsplit(url)
        added = signing.sign_headers(
            method.encode(),
            parts.path.encode(),
            parts.query.encode(),
            [(b"host", host.encode())],
            payload_hash,
            access_key=self.access_key,
            secret=self.secret,
            region=self.region,
            now=time.time(),
        )
        return {name.decode(): value.decode("latin-1") for name, value in added}


class Entry(msgspec.Struct):
    """One entry of a listing (``cmn/objlist.go``, ``LsoEnt``). A directory has ``is_dir`` and only a name."""

    name: str = msgspec.field(name="n")
    size: int = msgspec.field(name="s", default=0)
    checksum: str = msgspec.field(name="cs", default="")
    atime: str = msgspec.field(name="a", default="")
    version: str = msgspec.field(name="v", default="")
    location: str = msgspec.field(name="t", default="")
    custom: str = msgspec.field(name="m", default="")
    copies: int = msgspec.field(name="c", default=0)
    flags: int = msgspec.field(name="f", default=0)

    @property
    def is_dir(self) -> bool:
        return bool(self.flags & 1 << 8)


class _Page(msgspec.Struct):
    uuid: str = msgspec.field(name="UUID")
    token: str = msgspec.field(name="ContinuationToken")
    entries: list[Entry] | None = msgspec.field(name="Entries", default=None)


_decode_page = msgspec.msgpack.Decoder(_Page).decode


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the headers say about an object. ``atime`` is in ns since the epoch; "" and 0 stand for nothing said."""

    size: int
    checksum_type: str
    checksum: str
    version: str
    atime: int
    etag: str
    custom: dict[str, str]

    @classmethod
    def of(cls, response: IResponse) -> ObjectInfo:
        headers = response.headers

        def first(name: str) -> str:
            return str((headers.getRawHeaders(name) or [""])[0])

        custom = (text.partition("=") for text in headers.getRawHeaders("ais-custom-md") or ())
        return cls(
            # Of a GET Twisted keeps the header for itself; of a HEAD it has no length.
            size=int(first("content-length") or response.length),
            checksum_type=first("ais-checksum-type"),
            checksum=first("ais-checksum-value"),
            version=first("ais-version"),
            atime=int(first("ais-atime") or 0),
            etag=first("etag").strip('"'),
            custom={name: value for name, _, value in custom},
        )


class Client:
    """Talks to one server. ``close`` it at the end.

    :param endpoint: ``http://HOST:PORT``, the scheme may be missing.
    :param connections: how many requests run at once without waiting for each other's connection.
    :param ca_file: PEM certificates to trust over TLS instead of the system's.
    """

    def __init__(
        self,
        endpoint: str,
        reactor: IClientReactor,
        signer: Signer | None = None,
        connections: int = 8,
        ca_file: str = "",
    ) -> None:
        self.endpoint = _normal(endpoint)
        self.reactor = reactor
        self._signer = signer
        self._host = urlsplit(self.endpoint).netloc.rpartition("@")[2]
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = connections
        policy = BrowserLikePolicyForHTTPS(_trust(ca_file)) if ca_file else BrowserLikePolicyForHTTPS()
        self._http = HTTPClient(Agent(reactor, contextFactory=policy, connectTimeout=_CONNECT_SECONDS, pool=self._pool))

    async def close(self) -> None:
        """Close the connections that are kept. More requests may follow."""
        await self._pool.closeCachedConnections()

    # buckets ----------------------------------------------------------------------------------------------------

    async def buckets(self) -> list[str]:
        """The names of all buckets, in order."""
        body = await self._act("GET", "/v1/buckets", "list")
        return [bucket["name"] for bucket in json.loads(body)]

    async def create_bucket(self, name: str, props: Mapping[str, Any] | None = None) -> None:
        """:param props: a partial ``Bprops``."""
        await self._act("POST", _bucket_path(name), "create-bck", dict(props) if props else None)

    async def destroy_bucket(self, name: str) -> None:
        """With all that is in it."""
        await self._act("DELETE", _bucket_path(name), "destroy-bck")

    async def bucket_props(self, name: str) -> dict[str, Any]:
        """The ``Bprops`` document."""
        response = await self._request("HEAD", _bucket_path(name))
        props: dict[str, Any] = json.loads((response.headers.getRawHeaders("ais-bucket-props") or ["{}"])[0])
        return props

    async def set_props(self, name: str, props: Mapping[str, Any]) -> None:
        """:param props: a partial ``Bprops``."""
        await self._act("PATCH", _bucket_path(name), "set-bprops", dict(props))

    async def reset_props(self, name: str) -> None:
        """Back to those of a new bucket."""
        await self._act("PATCH", _bucket_path(name), "reset-bprops")

    async def pages(
        self,
        bucket: str,
        *,
        prefix: str = "",
        props: str = "name,size",
        recursive: bool = True,
        start_after: str = "",
        page_size: int = 0,
    ) -> AsyncIterator[list[Entry]]:
        """The objects whose names start with ``prefix``, page by page.

        :param recursive: False: what lies below a ``/`` after the prefix is one entry, a directory.
        :param page_size: 0 leaves it to the server.
        """
        message = {
            "prefix": prefix,
            "pagesize": page_size,
            "uuid": "",
            "props": props,
            "continuation_token": "",
            "flags": "0" if recursive else str(1 << 11),
            "target": "",
            "start_after": start_after,
        }
        while True:
            page = _decode_page(await self._act("GET", _bucket_path(bucket), "list", message, accept=_MSGPACK))
            yield page.entries or []
            if not page.token:
                return
            message = {**message, "continuation_token": page.token, "uuid": page.uuid}

    # objects ----------------------------------------------------------------------------------------------------

    async def head_object(self, bucket: str, key: str) -> ObjectInfo:
        """What is known about an object."""
        response = await self._request("HEAD", _object_path(bucket, key))
        return ObjectInfo.of(response)

    async def put_object(
        self,
        bucket: str,
        key: str,
        body: IBodyProducer | bytes,
        checksum_type: str = "none",
        digest: Digest | None = None,
    ) -> ObjectInfo:
        """Store an object. ``size`` of what comes back is not that of the object.

        :param digest: of ``checksum_type``, computed over what was sent by the time that the answer comes.
        :raises ClientError: also if the server has computed another one.
        """
        response = await self._request("PUT", _object_path(bucket, key), body=body)
        await treq.content(response)
        info = ObjectInfo.of(response)
        if digest is not None and info.checksum_type == checksum_type and info.checksum != digest.hexdigest():
            raise ClientError(f'"{key}" was damaged on its way: its {checksum_type} checksums differ')
        return info

    async def get_object(
        self, bucket: str, key: str, write: Callable[[bytes], object], begin: Callable[[ObjectInfo], None]
    ) -> ObjectInfo:
        """Fetch an object and verify its checksum, where the server has one.

        :param begin: called once before the first ``write``.
        :raises ClientError: less than all of it came, or its checksum differs; ``write`` has had bytes by then.
        """
        response = await self._request("GET", _object_path(bucket, key))
        info = ObjectInfo.of(response)
        begin(info)
        known = info.checksum_type in CHECKSUM_TYPES and bool(info.checksum)
        digest = new_digest(info.checksum_type if known else "none")
        received = 0

        def collect(data: bytes) -> None:
            nonlocal received
            received += len(data)
            digest.update(data)
            write(data)

        try:
            await treq.collect(response, collect)
        except _FAILURES as error:
            raise ClientError(f'the connection was lost while reading "{key}": {_reason(error)}') from error
        if received != info.size:
            raise ClientError(f'only {received} of {info.size} bytes of "{key}" have come')
        if known and digest.hexdigest() != info.checksum:
            raise ClientError(f'the {info.checksum_type} checksum of "{key}" does not match: expecting {info.checksum}')
        return info

    async def delete_object(self, bucket: str, key: str) -> None:
        """Raises ApiError with status 404 if it is not there."""
        await treq.content(await self._request("DELETE", _object_path(bucket, key)))

    # requests ---------------------------------------------------------------------------------------------------

    async def _act(self, method: str, path: str, action: str, value: Any = None, accept: str = "") -> bytes:
        """An action message, and the body of its answer."""
        message = json.dumps({"action": action, "name": "", "value": value}).encode()
        headers = {"Content-Type": "application/json"}
        if accept:
            headers["Accept"] = accept
        content: bytes = await treq.content(await self._request(method, path, headers, message))
        return content

    async def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: IBodyProducer | bytes | None = None,
    ) -> IResponse:
        """The answer, with its body still to be read. Raises ApiError and ClientError."""
        url = f"{self.endpoint}{path}?{urlencode({'provider': 'ais'})}"
        sent = Headers({"Host": [self._host], "User-Agent": ["ais-s3"]})
        added = dict(headers or {})
        if self._signer is not None:
            added |= self._signer.sign(method, url, self._host, _payload_hash(body))
        for name, value in added.items():
            sent.addRawHeader(name, value)
        try:
            response: IResponse = await self._http.request(
                method, url, headers=sent, data=body, unbuffered=True, allow_redirects=False
            )
            if response.code < 300:
                return response
            content = await treq.content(response)
        except (ConnectError, DNSLookupError) as error:
            raise ClientError(f"cannot connect to {self.endpoint}: {_reason(error)}") from error
        except RequestGenerationFailed as error:
            raise ClientError(f"cannot send what was to be sent: {_reason(error)}") from error
        except _FAILURES as error:
            raise ClientError(f"the connection to {self.endpoint} was lost: {_reason(error)}") from error
        raise _api_error(response, content)


def _normal(endpoint: str) -> str:
    """With a scheme and without a slash at the end. Raises ClientError."""
    text = endpoint if "://" in endpoint else f"http://{endpoint}"
    parts = urlsplit(text)
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.path.strip("/") or parts.query:
        raise ClientError(f'"{endpoint}" is no endpoint: expecting http://HOST:PORT')
    return f"{parts.scheme}://{parts.netloc}"


def _trust(ca_file: str) -> Any:
    """Raises ClientError."""
    begin = b"-----BEGIN CERTIFICATE-----"
    try:
        with open(ca_file, "rb") as file:
            pems = [begin + piece for piece in file.read().split(begin)[1:]]
        if not pems:
            raise ValueError("no certificate in it")
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in pems])
    except Exception as error:
        raise ClientError(f"cannot use the certificates in {os.fspath(ca_file)}: {error}") from error


def _bucket_path(name: str) -> str:
    return f"/v1/buckets/{quote(name, safe='')}"


def _object_path(bucket: str, key: str) -> str:
    return f"/v1/objects/{quote(bucket, safe='')}/{quote(key, safe='/')}"


def _payload_hash(body: Body | None) -> str:
    if body is None or isinstance(body, bytes):
        return hashlib.sha256(body or b"").hexdigest()
    return signing.UNSIGNED_PAYLOAD  # it is not there yet


def _api_error(response: IResponse, content: bytes) -> ApiError:
    """AIStore's error document is the body, or a header where the answer has no body."""
    text = (response.headers.getRawHeaders("hdr-error") or [""])[0] or content.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        return ApiError(response.code, str(document["message"]), str(document.get("tcode", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        phrase = response.phrase.decode("latin-1")
        return ApiError(response.code, f"the server answered {response.code} {phrase}: is this an AIStore endpoint?")


def _reason(error: BaseException) -> str:
    """The innermost text of Twisted's nested failures."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _reason(reasons[-1].value)
    if error.args and isinstance(error.args[0], list):  # OpenSSL's: (library, function, reason)
        return ", ".join(str(entry[-1]) for entry in error.args[0])
    return str(error).rstrip(".") or type(error).__name__
