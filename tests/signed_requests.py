"""What the tests of both signature versions need: AWS's example user, botocore as the signer, and what was refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.authentication import verify
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import Authenticated, SignedRequest

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
USERS = Credentials([("alice", ACCESS_KEY, SECRET)])
WRONG = Credentials([("alice", ACCESS_KEY, "another secret")])
HOST = b"127.0.0.1:8080"
ENDPOINT = f"http://{HOST.decode()}/s3"

#: The day of all of AWS's examples of SigV4.
MAY_24 = 1369353600
SCOPE = "20130524/us-east-1/s3/aws4_request"
EMPTY = hashlib.sha256(b"").hexdigest()


def request(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (), host: str | None = HOST.decode()
) -> SignedRequest:
    path, _, query = target.partition("?")
    fields = [(name.lower().encode(), value.encode()) for name, value in headers]
    if host is not None:
        fields.insert(0, (b"host", host.encode()))
    return SignedRequest(method.encode(), path.encode(), query.encode(), fields)


def changed(
    original: SignedRequest,
    *,
    method: bytes | None = None,
    path: bytes | None = None,
    query: bytes | None = None,
    headers: dict[bytes, bytes | None] | None = None,
) -> SignedRequest:
    """The same request but for what is named; a header of None is taken away, a new one comes last."""
    fields = dict(original.headers)
    for name, value in (headers or {}).items():
        if value is None:
            del fields[name]
        else:
            fields[name] = value
    return SignedRequest(
        original.method if method is None else method,
        original.path if path is None else path,
        original.query if query is None else query,
        list(fields.items()),
    )


def on_the_wire(prepared: Any) -> SignedRequest:
    """A request of botocore's as an HTTP client sends it."""
    parts = urlsplit(prepared.url)
    # botocore's own client has set a Host; a bare signer leaves that to the HTTP library.
    fields = [] if "host" in prepared.headers else [(b"host", parts.netloc.encode())]
    for name, value in prepared.headers.items():
        fields.append((name.lower().encode(), value if isinstance(value, bytes) else str(value).encode()))
    return SignedRequest(prepared.method.encode(), parts.path.encode() or b"/", parts.query.encode(), fields)


def by_botocore(
    auth: Any,
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    auth_path: str | None = None,
    data: bytes = b"",
) -> SignedRequest:
    """Signed by one of ``botocore.auth``'s signers."""
    unsigned = AWSRequest(method=method, url=url, headers=headers or {}, auth_path=auth_path, data=data)
    auth.add_auth(unsigned)
    return on_the_wire(unsigned.prepare())


class Wire:
    """A boto3-like client whose requests end here instead of on a socket."""

    def __init__(self, endpoint: str, signature_version: str, **config: Any) -> None:
        self.sent: list[SignedRequest] = []
        self.client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
            config=Config(signature_version=signature_version, s3={"addressing_style": "path"}, **config),
        )
        self.client.meta.events.register("before-send.s3", self._keep)

    def _keep(self, request: Any, **_: Any) -> AWSResponse:
        self.sent.append(on_the_wire(request))
        return AWSResponse(request.url, 200, {"ETag": '"x"'}, _Empty())


class _Empty:
    def read(self, *_: Any) -> bytes:
        return b""

    def stream(self, **_: Any) -> Iterable[bytes]:
        return iter(())


def refusal(signed: SignedRequest, now: float, users: Credentials = USERS, **options: Any) -> S3Error:
    """What :func:`verify` raises; it must. Whatever it says, it gives no secret away."""
    with pytest.raises(S3Error) as caught:
        verify(signed, users, now, **options)
    error = caught.value
    assert SECRET not in f"{error} {error.message} {dict(error.detail)} {dict(error.headers)}"
    return error


def accepted(signed: SignedRequest, now: float, users: Credentials = USERS, **options: Any) -> Authenticated:
    found = verify(signed, users, now, **options)
    assert (found.principal.name, found.principal.access_key) == ("alice", ACCESS_KEY)
    assert not found.principal.anonymous
    return found


def ours(
    method: str = "GET",
    target: str = "/s3/b/k",
    headers: dict[str, str] | None = None,
    payload: str = EMPTY,
    host: str = HOST.decode(),
    signed_target: str | None = None,
    now: float = MAY_24,
) -> SignedRequest:
    path, _, query = (signed_target or target).partition("?")
    fields = [(name.encode(), value.encode()) for name, value in {"host": host, **(headers or {})}.items()]
    added = signing.sign_headers(
        method.encode(),
        path.encode(),
        query.encode(),
        fields,
        payload,
        access_key=ACCESS_KEY,
        secret=SECRET,
        region="us-east-1",
        now=now,
    )
    path, _, query = target.partition("?")
    return SignedRequest(method.encode(), path.encode(), query.encode(), [(b"host", HOST), *fields[1:], *added])


def presign(
    method: str = "PUT",
    target: str = "/s3/b/k",
    headers: dict[str, str] | None = None,
    payload: str = "UNSIGNED-PAYLOAD",
    parameters: Mapping[str, str] = MappingProxyType({}),
) -> SignedRequest:
    """A presigned request. ``parameters``: further or other ones than the usual."""
    fields = {"host": HOST.decode(), **(headers or {})}
    names = ";".join(sorted(fields))
    values = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS_KEY}/{SCOPE}",
        "X-Amz-Date": "20130524T000000Z",
        "X-Amz-Expires": "600",
        "X-Amz-SignedHeaders": names,
        **parameters,
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
    canonical = signing.canonical_request(
        method.encode(),
        target.encode(),
        signing.canonical_query(signing.canonical_pairs(query.encode())),
        [f"{name}:{fields[name]}".encode() for name in sorted(fields)],
        names.encode(),
        payload.encode(),
    )
    date, _, rest = values["X-Amz-Credential"].partition("/")[2].partition("/")
    key = signing.signing_key(SECRET, date.encode(), rest.partition("/")[0].encode())
    to_sign = signing.string_to_sign(
        values["X-Amz-Date"].encode(), values["X-Amz-Credential"].partition("/")[2].encode(), canonical
    )
    signature = signing.sign(key, to_sign).decode()
    return request(method, f"{target}?{query}&X-Amz-Signature={signature}", list(fields.items())[1:])


#: AWS's example, "Authenticating Requests: Using Query Parameters".
EXAMPLE_HOST = "examplebucket.s3.amazonaws.com"
PRESIGNED = (
    "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential={quote(f'{ACCESS_KEY}/{SCOPE}', safe='')}"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
)

WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
