"""How text goes into an S3 document: escaping, and what XML 1.0 cannot carry.

An S3 key may hold characters that no XML 1.0 document can (U+0001..U+0008, U+000B, U+000C, U+000E..U+001F, U+FFFE,
U+FFFF). AWS writes them as character references (``&#x1;``), which strict parsers refuse all the same, and tells
clients to list with ``encoding-type=url`` ("ListObjectsV2", request parameters). We do as AWS does in listings, of
objects and of uploads, where a wrong key would lead on to wrong requests, and put U+FFFD where the client knows the
key, since it named it, and where a text is only for people to read: results of DeleteObjects and multipart uploads, and
errors, always parse. (boto3 takes a result that does not for a broken connection, and repeats the request.)
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_UNREPRESENTABLE = (*range(0x00, 0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF)

#: Carriage return is a reference because a parser would turn it into a line feed, the quote because AWS does so.
_EXACT: dict[int, str] = {
    **{code: f"&#x{code:X};" for code in (*_UNREPRESENTABLE, 0x0A, 0x0D)},
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
}
_READABLE: dict[int, str] = {
    **_EXACT,
    **dict.fromkeys((*_UNREPRESENTABLE, *range(0xD800, 0xE000)), "\N{REPLACEMENT CHARACTER}"),
}

_needs_escape = re.compile('[&<>"\x00-\x08\x0a-\x1f\ufffe\uffff]').search


#: Whether bytes need neither escaping nor percent-encoding. NUL is let through: it separates keys that are looked at
#: together, and no key holds one.
is_plain = re.compile(rb"[A-Za-z0-9_.~/\0-]*").fullmatch


def url_encode(key: bytes) -> str:
    """``key`` as ``encoding-type=url`` shows it: UTF-8, percent-encoded, ``/`` kept, a space as ``%20``.

    ``%20`` rather than ``+`` because it decodes alike with and without form decoding. The result needs no escaping.
    """
    return key.decode("ascii") if is_plain(key) and b"\0" not in key else quote_from_bytes(key, "/")


def escape(text: str) -> str:
    """``text`` as element content from which a parser gets the same text back (see the module for what none can)."""
    return text.translate(_EXACT) if _needs_escape(text) else text


def escape_readable(text: str) -> str:
    """``text`` as element content that always parses: what XML cannot carry becomes U+FFFD."""
    return text.translate(_READABLE)
