"""The query of a request target, decoded once and strictly."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from aisobj.errors import S3Error

_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search


class Query:
    """Decoded parameters in the order of the request. Names are text, values bytes of valid UTF-8.

    What SigV4 itself puts there is left out: no operation is told by it, and the verifier reads the raw query. Where a
    name comes twice the first one counts.
    """

    __slots__ = ("_first", "pairs", "signed")

    def __init__(self, pairs: tuple[tuple[str, bytes], ...], *, signed: bool = False) -> None:
        """:param signed: a signature of SigV4 was left out, right or not."""
        self.pairs = pairs
        self.signed = signed
        self._first = dict(reversed(pairs))

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __contains__(self, name: str) -> bool:
        return name in self._first

    def names(self) -> Collection[str]:
        """The parameters' names, each once."""
        return self._first.keys()

    def get_bytes(self, name: str) -> bytes | None:
        """The value, b"" where the name stands alone (``?acl``), or None."""
        return self._first.get(name)

    def get(self, name: str) -> str | None:
        """The value as text, "" where the name stands alone, or None."""
        value = self._first.get(name)
        return None if value is None else value.decode()

    def hoisted(self) -> list[tuple[bytes, bytes]]:
        """``x-amz-*`` headers that a presigning SDK moved into the query, lower-case names, without the signature's.

        AWS treats them as the headers they were (``x-amz-meta-*``, ``x-amz-acl``, ...).
        """
        if not self.pairs:
            return []
        lower = ((name.lower(), value) for name, value in self.pairs)
        return [(name.encode(), value) for name, value in lower if name.startswith("x-amz-") and name not in _SIGNATURE]

    def hoisted_header(self, name: bytes) -> bytes | None:
        """The value of one of :meth:`hoisted`, or None."""
        return next((value for found, value in self.hoisted() if found == name), None)


#: What SigV4 itself puts into a query, lower-case ("Authenticating Requests: Using Query Parameters").
_SIGNATURE = frozenset(
    f"x-amz-{name}"
    for name in (
        "algorithm",
        "credential",
        "date",
        "expires",
        "signedheaders",
        "signature",
        "security-token",
        "content-sha256",
        "user-agent",
    )
)

#: The same names as clients spell them.
_SIGNATURE_NAMES = frozenset(name.title().replace("Signedheaders", "SignedHeaders").encode() for name in _SIGNATURE)

EMPTY = Query(())


def parse_query(raw: bytes) -> Query:
    """Decode what follows the ``?`` of a request target (b"" if nothing does).

    ``+`` is a space, as AWS and every SDK's encoder have it. Raises InvalidURI for a bad ``%`` escape or for bytes that
    are not UTF-8.
    """
    if not raw:
        return EMPTY
    if b"%" in raw and _bad_escape(raw):
        raise S3Error("InvalidURI", "The query string has an invalid percent escape.")
    pairs = []
    signed = False
    try:
        for piece in raw.replace(b"+", b" ").split(b"&"):
            if not piece:
                continue
            name, _, value = piece.partition(b"=")
            if b"%" in piece:
                name, value = unquote_to_bytes(name), unquote_to_bytes(value)
            if name in _SIGNATURE_NAMES:
                signed = signed or name == b"X-Amz-Signature"
                continue
            value.decode()
            pairs.append((name.decode(), value))
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The query string is not valid UTF-8.") from None
    return Query(tuple(pairs), signed=signed) if pairs else EMPTY
