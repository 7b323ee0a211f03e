"""What the two signature versions have in common: the request they look at, what they answer, and what is allowed."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_tz
from functools import lru_cache
from types import MappingProxyType

import msgspec

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.model import Principal
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.s3time import NANOSECONDS, iso8601

#: How far a client's clock may be from ours, in seconds ("Time stamp requirement", ``dev/RESTAuthentication.html``).
MAX_SKEW = 15 * 60

SHA256_HEADER = b"x-amz-content-sha256"


class SignedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request's head as it came over the wire."""

    method: bytes
    path: bytes  #: raw, still percent-encoded, without the query
    query: bytes  #: raw, what follows the ``?``
    headers: Sequence[tuple[bytes, bytes]]  #: lower-case names, values without blanks around, in the order of the wire


class PayloadMode(enum.StrEnum):
    """What ``x-amz-content-sha256`` says of the body; the value is the header's, where it is a fixed one."""

    SIGNED = "SHA256"  #: its hash is given, and signed
    UNSIGNED = "UNSIGNED-PAYLOAD"
    STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    MISSING = "MISSING"  #: nothing is said

    __hash__ = str.__hash__  # Enum's own is a function in Python, and every request looks its mode up


class Mechanism(enum.StrEnum):
    """Where a signature is, and of which version."""

    V4_HEADER = "v4 header"
    V4_QUERY = "v4 query"
    V2_HEADER = "v2 header"
    V2_QUERY = "v2 query"

    __hash__ = str.__hash__


# For every request: a member of an Enum is looked up by a function in Python 3.11.
UNSIGNED, SIGNED = PayloadMode.UNSIGNED, PayloadMode.SIGNED
V4_HEADER, V4_QUERY = Mechanism.V4_HEADER, Mechanism.V4_QUERY

SIGNED_CHUNKS = frozenset({PayloadMode.STREAMING_SIGNED, PayloadMode.STREAMING_SIGNED_TRAILER})

_STREAMING = (
    PayloadMode.STREAMING_SIGNED,
    PayloadMode.STREAMING_SIGNED_TRAILER,
    PayloadMode.STREAMING_UNSIGNED_TRAILER,
)

#: Every pair of mechanism and mode has its row; only True lets a request in. Chunks are a matter of the header of
#: SigV4 alone ("Signature Calculations for the Authorization Header"), which also must say what the body is.
ALLOWED: Mapping[tuple[Mechanism, PayloadMode], bool] = MappingProxyType(
    {
        **{(Mechanism.V4_HEADER, mode): mode is not PayloadMode.MISSING for mode in PayloadMode},
        **{
            (mechanism, mode): mode not in _STREAMING
            for mechanism in (Mechanism.V4_QUERY, Mechanism.V2_HEADER, Mechanism.V2_QUERY)
            for mode in PayloadMode
        },
    }
)

_MODES = {mode.value.encode(): mode for mode in (PayloadMode.UNSIGNED, *_STREAMING)}
_is_sha256 = re.compile(rb"[0-9A-Fa-f]{64}").fullmatch


def payload_mode(value: bytes | None) -> PayloadMode:
    """The meaning of ``x-amz-content-sha256``, None if there is none.

    :raises S3Error: InvalidArgument for a value that is neither a hash nor one of the words.
    """
    if value is None:
        return PayloadMode.MISSING
    mode = _MODES.get(value)
    if mode is not None:
        return mode
    if _is_sha256(value):
        return PayloadMode.SIGNED
    raise S3Error(
        "InvalidArgument",
        f"{SHA256_HEADER.decode()} must be {', '.join(word.decode() for word in _MODES)}, or a valid sha256 value.",
        ArgumentName=SHA256_HEADER.decode(),
        ArgumentValue=text(value),
    )


class ChunkSigner:
    """Checks the signatures inside an ``aws-chunked`` body, each of which covers the one before it.

    Sources: AWS "Transferring Payload in Multiple Chunks" (``API/sigv4-streaming.html``) and "Including Trailing
    Headers" (``API/sigv4-streaming-trailers.html``).
    """

    __slots__ = ("_key", "_previous", "_scope")

    def __init__(self, key: bytes, amz_date: bytes, scope: bytes, seed_signature: bytes) -> None:
        """
        :param key: from :func:`aisobj.signing.signing_key`. ``amz_date``, ``scope``: as in the string to sign.
        :param seed_signature: the request's own, verified.
        """
        self._key = key
        self._scope = amz_date + b"\n" + scope + b"\n"
        self._previous = seed_signature

    def verify_chunk(self, sha256_hex: str, signature: bytes, /) -> None:
        """
        :param sha256_hex: of the chunk's data, lower case; of no bytes for the last chunk.
        :raises S3Error: SignatureDoesNotMatch.
        """
        self._verify(b"AWS4-HMAC-SHA256-PAYLOAD\n", f"{signing.EMPTY_SHA256}\n{sha256_hex}".encode("ascii"), signature)

    def verify_trailer(self, canonical_trailer: bytes, signature: bytes, /) -> None:
        """
        :param canonical_trailer: ``name:value LF`` of each trailer.
        :raises S3Error: SignatureDoesNotMatch.
        """
        digest = hashlib.sha256(canonical_trailer).hexdigest().encode("ascii")
        self._verify(b"AWS4-HMAC-SHA256-TRAILER\n", digest, signature)

    def _verify(self, algorithm: bytes, hashes: bytes, signature: bytes) -> None:
        expected = signing.sign(self._key, algorithm + self._scope + self._previous + b"\n" + hashes)
        if not hmac.compare_digest(expected, signature):
            raise S3Error("SignatureDoesNotMatch")
        self._previous = expected


class Authenticated(msgspec.Struct, frozen=True):
    """A request whose signature was right. The body is still to be held against ``mode``."""

    principal: Principal
    mode: PayloadMode
    payload_sha256: str | None  #: lower-case hex that the body must have; with SIGNED only
    chunk_signer: ChunkSigner | None  #: with STREAMING_SIGNED and STREAMING_SIGNED_TRAILER only
    signature_version: int  #: 2 or 4
    presigned: bool  #: the signature was in the query
    only_signature: bool = False  #: nothing else was in the query: no operation has a parameter there


def check_allowed(mechanism: Mechanism, mode: PayloadMode) -> None:
    """:raises S3Error: AccessDenied. Called only after the signature was right, so that a wrong one is always told."""
    if not ALLOWED[mechanism, mode]:
        raise S3Error("AccessDenied", f"{mode.value} is not accepted with a signature in the {mechanism.value}.")


def merge_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """name -> trimmed value; the values of a name that comes twice are joined by commas, in their order."""
    fields = dict(headers)  # who parsed the head has trimmed them
    if len(fields) != len(headers):
        joined: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            joined.setdefault(name, []).append(value.strip())
        fields = {name: b",".join(values) for name, values in joined.items()}
    return fields


def find_user(credentials: Credentials, access_key: bytes, token: bytes | None) -> tuple[Principal, str]:
    """The user and the secret.

    :param token: ``x-amz-security-token``, None if there is none. We hand out none, so that none can be right.
    :raises S3Error: InvalidAccessKeyId, InvalidToken.
    """
    found = credentials.lookup(access_key)
    if found is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=text(access_key))
    if token is not None:
        raise S3Error("InvalidToken")
    return found


def check_skew(claimed: int, as_sent: bytes, now: float) -> None:
    """:raises S3Error: RequestTimeTooSkewed."""
    if abs(now - claimed) > MAX_SKEW:
        raise S3Error(
            "RequestTimeTooSkewed",
            RequestTime=text(as_sent),
            ServerTime=server_time(now),
            MaxAllowedSkewMilliseconds=str(MAX_SKEW * 1000),
        )


def server_time(seconds: float) -> str:
    """As error documents show times."""
    return iso8601(int(seconds) * NANOSECONDS)


#: Code and text, AWS's words, where a header's signature comes without a date that can be read.
NO_DATE = "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"


def text(value: bytes) -> str:
    """For an error document, or a look-up: whatever a client sent."""
    return value.decode("utf-8", "replace")


_match_amz_date = re.compile(rb"(\d{4})(\d\d)(\d\d)T([01]\d|2[0-3])([0-5]\d)([0-5]\d)Z").fullmatch


@lru_cache(maxsize=256)
def parse_amz_date(value: bytes) -> int | None:
    """``20130524T000000Z`` in seconds since the epoch, or None."""
    match = _match_amz_date(value)
    return None if match is None else _seconds([int(part) for part in match.groups()])


_MAX_ZONE = 24 * 3600  #: the parser takes a number of any length for hours and minutes


def parse_date_header(value: bytes) -> int | None:
    """``Date`` as signing clients write it (RFC 5322: ``Tue, 27 Mar 2007 19:36:42 +0000``, or GMT), or None.

    Less strict than an HTTP date, since AWS's own examples have a numeric zone.
    """
    if len(value) > 64:
        return None
    parsed = parsedate_tz(value.decode("latin-1"))
    if parsed is None:
        return None
    seconds, zone = _seconds(parsed[:6]), parsed[9] or 0
    return None if seconds is None or abs(zone) > _MAX_ZONE else seconds - zone


def _seconds(fields: Sequence[int]) -> int | None:
    year, month, day, hour, minute, second = fields
    if year < 1970:  # no time that a client can have, and to AWS no date at all
        return None
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        return None
