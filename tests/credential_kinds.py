"""Every way to say who one is, right and wrong: what the matrix of ``test_auth_matrix`` has for columns.

SigV4 is signed by ``aisobj.signing`` (which has AWS's vectors for tests of its own), SigV2 by botocore.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from botocore.auth import HmacV1Auth
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from routes import Route
from s3raw import STREAMING, UNSIGNED_TRAILER, Sender, User

from aisobj import signing

MINUTE = 60.0


class People(NamedTuple):
    """Who there is at a server, and who is not."""

    endpoint: str
    alice: User
    bob: User

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc


class Kind(NamedTuple):
    """One way. ``code``: what S3 calls what is wrong with it, "" where nothing is."""

    code: str
    request: Callable[[People, Route], bytes]


NOBODY = User("AKIANOBODY", "no secret")


def wrong(user: User) -> User:
    """With somebody's key and another secret."""
    return User(user.access_key, user.secret + "x")


def other_method(route: Route) -> Route:
    return route._replace(method="DELETE" if route.method == "GET" else "GET")


def other_path(route: Route) -> Route:
    path, mark, query = route.target.partition("?")
    return route._replace(target=f"{path}{'' if path.endswith('/') else '/'}other{mark}{query}")


def with_query(target: str, query: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}{query}"


def plain(*fields: tuple[str, str], query: str = "", body: bytes = b"") -> Callable[[People, Route], bytes]:
    """Nothing signed."""

    def build(people: People, route: Route) -> bytes:
        target = with_query(route.target, query) if query else route.target
        return _head(people, route.method, target, fields, len(body)) + body

    return build


def _head(
    people: People,
    method: str,
    target: str,
    fields: tuple[tuple[str, str], ...] | list[tuple[str, str]],
    length: int = 0,
) -> bytes:
    if length or method not in ("GET", "HEAD"):
        fields = [*fields, ("content-length", str(length))]
    return Sender(people.endpoint).head(method, target, fields)


# SigV4 in the header


def v4(
    who: Callable[[People], User],
    *,
    as_if: Callable[[Route], Route] = lambda route: route,
    clock: float = 0.0,
    payload: str = signing.EMPTY_SHA256,
    headers: tuple[tuple[str, str], ...] = (),
    later: tuple[tuple[str, str], ...] = (),
    change: Callable[[bytes], bytes] = lambda head: head,
) -> Callable[[People, Route], bytes]:
    """
    :param as_if: what is signed instead. :param clock: how far it is off.
    :param later: headers that are added when the signature is made. :param change: what is done to the finished head.
    """

    def build(people: People, route: Route) -> bytes:
        signed = as_if(route)
        sender = Sender(people.endpoint, who(people))
        length = None if route.method in ("GET", "HEAD") else 0
        head = sender.head(
            signed.method,
            signed.target,
            headers,
            payload=payload,
            later=later,
            length=length,
            now=time.time() + clock,
        )
        _, _, rest = head.partition(b"\r\n")
        return change(f"{route.method} {route.target} HTTP/1.1\r\n".encode() + rest)

    return build


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(head: bytes) -> bytes:
        assert old in head
        return head.replace(old, new)

    return change


def signature_cut(keep: int) -> Callable[[bytes], bytes]:
    def change(head: bytes) -> bytes:
        before, mark, after = head.partition(b"Signature=")
        return before + mark + after[:keep] + after[64:]

    return change


# SigV4 in the query


def presigned(
    who: Callable[[People], User],
    *,
    as_if: Callable[[Route], Route] = lambda route: route,
    clock: float = 0.0,
    expires: int = 60,
    added: str = "",
    without: str = "",
    fields: tuple[tuple[str, str], ...] = (),
) -> Callable[[People, Route], bytes]:
    """
    :param added: to the finished query. :param without: this parameter.
    """

    def build(people: People, route: Route) -> bytes:
        signed = as_if(route)
        query = presigned_query(who(people), signed, people.host, time.time() + clock, expires)
        if without:
            query = "&".join(piece for piece in query.split("&") if not piece.startswith(f"{without}="))
        target = with_query(route.target, query) + added
        return _head(people, route.method, target, fields)

    return build


def presigned_query(user: User, route: Route, host: str, now: float, expires: int = 60) -> str:
    """The parameters that make a URL of it."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    path, _, own = route.target.partition("?")
    values = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{user.access_key}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())
    every = f"{own}&{query}" if own else query
    canonical = signing.canonical_request(
        route.method.encode(),
        path.encode(),
        signing.canonical_query(signing.canonical_pairs(every.encode())),
        [f"host:{host}".encode()],
        b"host",
        b"UNSIGNED-PAYLOAD",
    )
    key = signing.signing_key(user.secret, date[:8].encode(), b"us-east-1")
    signature = signing.sign(key, signing.string_to_sign(date.encode(), scope.encode(), canonical)).decode()
    return f"{query}&X-Amz-Signature={signature}"


# SigV2

#: The sub-resources that a signature covers, as botocore has them.
COVERED_BY_V2 = frozenset(HmacV1Auth.QSAOfInterest)


class SigV2(HmacV1Auth):
    """botocore's, with a time of our own."""

    def __init__(self, user: User, date: str) -> None:
        super().__init__(Credentials(*user))
        self._date = date

    def _get_date(self) -> str:
        return self._date


def v2(
    who: Callable[[People], User],
    *,
    as_if: Callable[[Route], Route] = lambda route: route,
    clock: float = 0.0,
    in_query: bool = False,
) -> Callable[[People, Route], bytes]:
    """:param clock: how far it is off; in the query, from now to the end of its time less a minute."""

    def build(people: People, route: Route) -> bytes:
        user, signed = who(people), as_if(route)
        parts = urlsplit(f"{people.endpoint}{signed.target}")
        if in_query:
            expires = str(int(time.time() + clock + MINUTE))
            signature = SigV2(user, expires).get_signature(signed.method, parts, HTTPHeaders())
            query = f"AWSAccessKeyId={user.access_key}&Expires={expires}&Signature={quote(signature, safe='')}"
            return _head(people, route.method, with_query(route.target, query), [])
        date = formatdate(time.time() + clock, usegmt=True)
        signature = SigV2(user, date).get_signature(signed.method, parts, HTTPHeaders())
        fields = [("date", date), ("authorization", f"AWS {user.access_key}:{signature}")]
        return _head(people, route.method, route.target, fields)

    return build


def alice(people: People) -> User:
    return people.alice


def bob(people: People) -> User:
    return people.bob


def mallory(people: People) -> User:
    """With the key of one user and the secret of another."""
    return User(people.bob.access_key, people.alice.secret)


def guesser(people: People) -> User:
    return wrong(people.alice)


def nobody(people: People) -> User:
    return NOBODY


def both(header: Callable[[People, Route], bytes], query: str) -> Callable[[People, Route], bytes]:
    """A right signature in the header, and something of one in the query, which is signed with it."""

    def build(people: People, route: Route) -> bytes:
        return header(people, route._replace(target=with_query(route.target, query)))

    return build


FORM = b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--b--\r\n'
HALF_OF_V4 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
HALF_OF_V2 = "AWSAccessKeyId=AKIAALICE&Signature=c2ln&Expires=9999999999"

KINDS: dict[str, Kind] = {
    # Nobody
    "none": Kind("AccessDenied", plain()),
    "empty": Kind("AccessDenied", plain(("authorization", ""))),
    "bearer": Kind("InvalidArgument", plain(("authorization", "Bearer e30.e30."))),
    "basic": Kind("InvalidArgument", plain(("authorization", "Basic YWxpY2U6c2VjcmV0"))),
    "scheme in lower case": Kind("InvalidArgument", plain(("authorization", "aws4-hmac-sha256 Credential=x"))),
    "scheme alone": Kind("AuthorizationHeaderMalformed", plain(("authorization", "AWS4-HMAC-SHA256"))),
    "token of AIStore's": Kind("AccessDenied", plain(("x-amz-security-token", "e30.e30."))),
    "a form": Kind("AccessDenied", plain(("content-type", "multipart/form-data; boundary=b"), body=FORM)),
    "half of a presigned URL": Kind("AuthorizationQueryParametersError", plain(query="X-Amz-Signature=" + "0" * 64)),
    "unsigned trailer": Kind("AccessDenied", plain(("x-amz-content-sha256", UNSIGNED_TRAILER))),
    # SigV4 in the header
    "v4: wrong secret": Kind("SignatureDoesNotMatch", v4(guesser)),
    "v4: unknown key": Kind("InvalidAccessKeyId", v4(nobody)),
    "v4: another user's secret": Kind("SignatureDoesNotMatch", v4(mallory)),
    "v4: another method": Kind("SignatureDoesNotMatch", v4(alice, as_if=other_method)),
    "v4: another path": Kind("SignatureDoesNotMatch", v4(alice, as_if=other_path)),
    "v4: another query": Kind(
        "SignatureDoesNotMatch", v4(alice, as_if=lambda r: r._replace(target=with_query(r.target, "a=b")))
    ),
    "v4: another host": Kind("SignatureDoesNotMatch", v4(alice, change=replaced(b"host: 127", b"host: 10"))),
    "v4: old": Kind("RequestTimeTooSkewed", v4(alice, clock=-16 * MINUTE)),
    "v4: early": Kind("RequestTimeTooSkewed", v4(alice, clock=16 * MINUTE)),
    "v4: another service": Kind("AuthorizationHeaderMalformed", v4(alice, change=replaced(b"/s3/aws4", b"/iam/aws4"))),
    "v4: host not signed": Kind("AccessDenied", v4(alice, change=replaced(b"SignedHeaders=host;", b"SignedHeaders="))),
    "v4: a header that is not signed": Kind("AccessDenied", v4(alice, later=(("x-amz-acl", "private"),))),
    "v4: a signed header, changed": Kind(
        "SignatureDoesNotMatch",
        v4(alice, headers=(("x-amz-acl", "private"),), change=replaced(b"private", b"public-read")),
    ),
    "v4: nothing of the body": Kind(
        "InvalidRequest", v4(alice, change=replaced(b"x-amz-content-sha256:", b"x-ignored:"))
    ),
    "v4: signature cut": Kind("SignatureDoesNotMatch", v4(alice, change=signature_cut(63))),
    "v4: signature empty": Kind("AuthorizationHeaderMalformed", v4(alice, change=signature_cut(0))),
    "v4: a session": Kind("InvalidToken", v4(alice, headers=(("x-amz-security-token", "token"),))),
    "v4: signed chunks, wrong secret": Kind("SignatureDoesNotMatch", v4(guesser, payload=STREAMING)),
    "v4: unsigned trailer, wrong secret": Kind("SignatureDoesNotMatch", v4(guesser, payload=UNSIGNED_TRAILER)),
    # SigV4 in the query
    "presigned: wrong secret": Kind("SignatureDoesNotMatch", presigned(guesser)),
    "presigned: unknown key": Kind("InvalidAccessKeyId", presigned(nobody)),
    "presigned: another user's secret": Kind("SignatureDoesNotMatch", presigned(mallory)),
    "presigned: another method": Kind("SignatureDoesNotMatch", presigned(alice, as_if=other_method)),
    "presigned: another path": Kind("SignatureDoesNotMatch", presigned(alice, as_if=other_path)),
    "presigned: more in the query": Kind("SignatureDoesNotMatch", presigned(alice, added="&a=b")),
    "presigned: expired": Kind("AccessDenied", presigned(alice, clock=-2 * MINUTE)),
    "presigned: not yet": Kind("AccessDenied", presigned(alice, clock=20 * MINUTE)),
    "presigned: for eight days": Kind("AuthorizationQueryParametersError", presigned(alice, expires=8 * 86400)),
    "presigned: without its signature": Kind(
        "AuthorizationQueryParametersError", presigned(alice, without="X-Amz-Signature")
    ),
    "presigned: signature twice": Kind(
        "AuthorizationQueryParametersError", presigned(alice, added="&X-Amz-Signature=" + "0" * 64)
    ),
    "presigned: a header that is not signed": Kind(
        "AccessDenied", presigned(alice, fields=(("x-amz-acl", "private"),))
    ),
    "presigned: unsigned trailer": Kind(
        "SignatureDoesNotMatch", presigned(alice, fields=(("x-amz-content-sha256", UNSIGNED_TRAILER),))
    ),
    # SigV2
    "v2: wrong secret": Kind("SignatureDoesNotMatch", v2(guesser)),
    "v2: unknown key": Kind("InvalidAccessKeyId", v2(nobody)),
    "v2: another user's secret": Kind("SignatureDoesNotMatch", v2(mallory)),
    "v2: another method": Kind("SignatureDoesNotMatch", v2(alice, as_if=other_method)),
    "v2: another path": Kind("SignatureDoesNotMatch", v2(alice, as_if=other_path)),
    "v2: old": Kind("RequestTimeTooSkewed", v2(alice, clock=-16 * MINUTE)),
    "v2 query: wrong secret": Kind("SignatureDoesNotMatch", v2(guesser, in_query=True)),
    "v2 query: unknown key": Kind("InvalidAccessKeyId", v2(nobody, in_query=True)),
    "v2 query: another method": Kind("SignatureDoesNotMatch", v2(alice, as_if=other_method, in_query=True)),
    "v2 query: another path": Kind("SignatureDoesNotMatch", v2(alice, as_if=other_path, in_query=True)),
    "v2 query: expired": Kind("AccessDenied", v2(alice, clock=-2 * MINUTE, in_query=True)),
    # Two at once
    "v4 and a presigned URL": Kind("InvalidArgument", both(v4(alice), HALF_OF_V4)),
    "v4 and v2 in the query": Kind("InvalidArgument", both(v4(alice), HALF_OF_V2)),
    "v2 and a presigned URL": Kind("InvalidArgument", both(v2(alice), HALF_OF_V4)),
    "presigned by both": Kind("InvalidArgument", both(presigned(alice), HALF_OF_V2)),
    # Somebody. Every user may do everything: there are no keys that only read, and no bucket for anonymous ones
    "v4": Kind("", v4(alice)),
    "v4, another user": Kind("", v4(bob)),
    "v4, unsigned payload": Kind("", v4(alice, payload="UNSIGNED-PAYLOAD")),
    "v4, 14 minutes late": Kind("", v4(alice, clock=-14 * MINUTE)),
    "presigned": Kind("", presigned(alice)),
    "presigned, another user": Kind("", presigned(bob)),
    "v2": Kind("", v2(alice)),
    "v2 query": Kind("", v2(alice, in_query=True)),
}
