"""The documents that clients send, read strictly.

No DTD, no entities, nothing external, a bounded number of elements: what is refused is MalformedXML. Documents
may be in S3's namespace, in another (older tools), or in none. Unknown elements are skipped, except where skipping one
could do harm: a condition in a ``Delete`` that we do not know.

expat sees each document twice. The first time it looks for a DTD, without which there are no entities and nothing
external; the second time ElementTree's parser in C makes the tree. defusedxml does both at once, in Python, and takes
three times as long, which for 10,000 parts is a tenth of a second in which nobody else is served.

A key may hold characters that XML 1.0 cannot carry. Clients send them nevertheless, raw (boto3) or as ``&#x1;`` (what
our own documents say), so a document with such characters is read with each put into a private-use character that the
document does not hold, and put back afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, XMLParser
from xml.parsers import expat

from aisobj.errors import S3Error
from aisobj.model import VersioningStatus
from aisobj.protocol.conditions import parse_date
from aisobj.protocol.listing import Slices, finish
from aisobj.protocol.s3time import NANOSECONDS

MAX_DELETE_KEYS = 1000
MAX_PARTS = 10_000
#: For each tag that there may be: so many quotes (attributes have two each), and so many references and characters that
#: XML cannot carry. Both cost microseconds each, and no document that means anything comes near.
_QUOTES = 8
_SPECIALS = 16
_CHILDREN = 100  #: parts that are read in one go, 0.4 ms
_TAGS = 16  #: start and end tags that one key (12 with every condition) or part (8 with a checksum) may take


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """One ``Object`` of a DeleteObjects request, with the conditions that must hold for it."""

    key: bytes
    version_id: str | None = None
    etag: str | None = None  #: without quotes; ``*`` is any
    size: int | None = None
    last_modified: int | None = None  #: ns


@dataclass(frozen=True, slots=True)
class CompletePart:
    """One ``Part`` of a CompleteMultipartUpload request. The number is any that the client wrote, the order too."""

    number: int
    etag: str  #: without quotes
    checksums: dict[str, str] = field(default_factory=dict)  #: AWS's algorithm name -> base64 as sent


def read_create_bucket(body: bytes) -> str | None:
    """The ``LocationConstraint`` of a CreateBucket request, or None (no body, or none in it).

    Raises MalformedXML; NotImplemented for directory buckets and tags.
    """
    if not body.strip():
        return None
    root = _parse(body, "CreateBucketConfiguration")
    location = None
    for child, name in _children(root):
        if name in {"Location", "Bucket", "Tags"}:
            raise S3Error("NotImplemented", Element=name)
        if name == "LocationConstraint":
            location = _text(child).strip()
    return location or None


def read_versioning(body: bytes) -> VersioningStatus:
    """ENABLED or SUSPENDED, from a PutBucketVersioning request.

    Raises MalformedXML (also for another ``Status``, which AWS's schema has not), NotImplemented (MFA delete),
    IllegalVersioningConfigurationException (no ``Status``).
    """
    root = _parse(body, "VersioningConfiguration")
    status = None
    for child, name in _children(root):
        if name == "Status":
            status = _text(child).strip()
        elif name == "MfaDelete" and _text(child).strip() != "Disabled":
            raise S3Error("NotImplemented", Element=name)
    if status == "Enabled":
        return VersioningStatus.ENABLED
    if status == "Suspended":
        return VersioningStatus.SUSPENDED
    raise S3Error("IllegalVersioningConfigurationException" if status is None else "MalformedXML")


def read_delete(body: bytes) -> tuple[list[DeleteKey], bool]:
    """The keys of a DeleteObjects request, 1 to 1,000, and ``Quiet``. Raises MalformedXML."""
    root = _parse(body, "Delete", MAX_DELETE_KEYS * _TAGS)
    keys = []
    quiet = False
    for child, name in _children(root):
        if name == "Object":
            keys.append(_delete_key(child))
        elif name == "Quiet":
            quiet = _boolean(_text(child))
    if not 1 <= len(keys) <= MAX_DELETE_KEYS:
        raise S3Error("MalformedXML")
    return keys, quiet


def read_complete(body: bytes) -> Slices[list[CompletePart]]:
    """The parts of a CompleteMultipartUpload request, 1 to 10,000, as ordered by the client.

    Raises MalformedXML, InvalidArgument for a part number below 1.
    """
    root = yield from _parse_slices(body, "CompleteMultipartUpload", MAX_PARTS * _TAGS, keys=False)
    parts: list[CompletePart] = []
    for number, child in enumerate(root):
        if child.tag.rpartition("}")[2] == "Part":
            parts.append(_complete_part(child))
        if number % _CHILDREN == _CHILDREN - 1:
            yield
    if not 1 <= len(parts) <= MAX_PARTS:
        raise S3Error("MalformedXML")
    return parts


_DELETE_FIELDS = frozenset({"Key", "VersionId", "ETag", "Size", "LastModifiedTime"})


def _delete_key(element: Element) -> DeleteKey:
    texts = _texts(element)
    if not texts.get("Key") or not texts.keys() <= _DELETE_FIELDS:
        raise S3Error("MalformedXML")
    size = texts.get("Size")
    modified = texts.get("LastModifiedTime")
    seconds = None if modified is None else parse_date(modified.strip())
    if modified is not None and seconds is None:
        raise S3Error("MalformedXML")
    etag = texts.get("ETag")
    return DeleteKey(
        key=texts["Key"].encode(),
        version_id=texts.get("VersionId") or None,
        etag=None if etag is None else _unquote(etag),
        size=None if size is None else _integer(size),
        last_modified=None if seconds is None else seconds * NANOSECONDS,
    )


def _complete_part(element: Element) -> CompletePart:
    texts = _texts(element)
    if "PartNumber" not in texts or not texts.get("ETag"):
        raise S3Error("MalformedXML")
    checksums = {
        name.removeprefix("Checksum"): text.strip() for name, text in texts.items() if name.startswith("Checksum")
    }
    return CompletePart(_part_number(texts["PartNumber"]), _unquote(texts["ETag"]), checksums)


def _part_number(text: str) -> int:
    """A number below 1 is a number by the schema, so AWS tells it from what is none."""
    number = _integer(text) if "-" not in text else -_integer(text.strip().removeprefix("-"))
    if number < 1:
        raise S3Error(
            "InvalidArgument", "PartNumber must be >= 1", ArgumentName="PartNumber", ArgumentValue=str(number)
        )
    return number


def _texts(element: Element) -> dict[str, str]:
    texts: dict[str, str] = {}
    for child in element:
        name = child.tag.rpartition("}")[2]
        if name in texts or len(child):
            raise S3Error("MalformedXML")
        texts[name] = child.text or ""
    return texts


def _children(element: Element) -> list[tuple[Element, str]]:
    return [(child, child.tag.rpartition("}")[2]) for child in element]


def _text(element: Element) -> str:
    if len(element):
        raise S3Error("MalformedXML")
    return element.text or ""


def _unquote(etag: str) -> str:
    etag = etag.strip()
    return etag[1:-1] if len(etag) >= 2 and etag[0] == etag[-1] == '"' else etag


def _integer(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise S3Error("MalformedXML")
    return int(text)


def _boolean(text: str) -> bool:
    value = text.strip().lower()
    if value not in {"true", "false", "1", "0", ""}:
        raise S3Error("MalformedXML")
    return value in {"true", "1"}


def _parse(body: bytes, root: str, max_tags: int = 1000) -> Element:
    """:func:`_parse_slices` at once."""
    return finish(_parse_slices(body, root, max_tags))


def _parse_slices(body: bytes, root: str, max_tags: int, keys: bool = True) -> Slices[Element]:
    """The document's root element, which must be called ``root``.

    Raises MalformedXML, before any work for what would make much of it: more than ``max_tags`` start and end tags
    (which also bounds the depth), 100,000 attributes, a megabyte of references, or references padded with zeros.

    :param keys: it may hold keys, and so characters that XML cannot carry; otherwise those are refused too.
    """
    body = _as_utf8(body)
    if body.count(b"<") > max_tags or _count(body, b"\"'") > _QUOTES * max_tags:
        raise S3Error("MalformedXML")
    if len(body) > _PIECE:
        yield
    restore = None
    if _has_specials(body, _SPECIALS * max_tags):
        if not keys and _unrepresentable(body):
            raise S3Error("MalformedXML")
        body, restore = _substitute(body)
    try:
        document = yield from _tree(body)
    except (ParseError, expat.ExpatError):
        raise S3Error("MalformedXML") from None
    if document.tag.rpartition("}")[2] != root:
        raise S3Error("MalformedXML")
    if restore is not None:
        for element in document.iter():
            if element.text:
                element.text = restore(element.text)
    return document


def _has_specials(body: bytes, most: int) -> bool:
    """Whether there may be characters that XML cannot carry, or references to them. Raises MalformedXML for too many.

    A reference to a quote is none: SDKs write those of ETags so.
    """
    # One byte is looked for ten times as fast as two are counted.
    references = body.count(b"&#") if b"&" in body else 0
    controls = _count(body, _CONTROLS) + (body.count(b"\xef\xbf") if b"\xef" in body else 0)
    if references + controls > most or (references and (b"&#0000" in body or b"&#x0000" in body)):
        raise S3Error("MalformedXML")
    return controls > 0 or (references > 0 and references > body.count(b"&#34;"))


def _count(body: bytes, which: bytes) -> int:
    """How many of its bytes are one of ``which``. (With Debian's Python two counts take thrice as long.)"""
    return len(body) - len(body.translate(None, which))


#: A document goes to the parsers in pieces of so many bytes, 0.3 ms each.
_PIECE = 1 << 15


def _tree(body: bytes) -> Slices[Element]:
    """:raises S3Error: MalformedXML for a DTD; what the parsers raise for anything else."""
    guard, parser = expat.ParserCreate("UTF-8"), XMLParser(encoding="UTF-8")
    guard.StartDoctypeDeclHandler = _refuse_dtd
    guard.XmlDeclHandler = _check_encoding
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        guard.Parse(piece)  # first: what it refuses the other one never sees
        if start - guard.CurrentByteIndex > _PIECE:
            raise S3Error("MalformedXML")  # one tag or comment: its beginning would be read again for every piece
        parser.feed(piece)
        if start + _PIECE < len(body):
            yield
    guard.Parse(b"", True)
    document: Element = parser.close()
    return document


def _refuse_dtd(*_: object) -> NoReturn:
    raise S3Error("MalformedXML")


def _as_utf8(body: bytes) -> bytes:
    """The document in UTF-8: what is counted, substituted and parsed must be the same characters.

    Only a document in UTF-16 has NULs. Its declaration still says so; the parsers are told better.
    """
    if b"\0" not in body:
        return body
    little = body.startswith((b"\xff\xfe", b"<\0"))
    try:
        return body.decode("utf-16-le" if little else "utf-16-be").removeprefix("\ufeff").encode()
    except UnicodeDecodeError:
        raise S3Error("MalformedXML") from None


#: Python would look for a codec of any name, and remember for good each that there is not.
_ENCODINGS = frozenset({"utf-8", "us-ascii", "utf-16"})


def _check_encoding(version: str, encoding: str | None, standalone: int) -> None:
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        raise S3Error("MalformedXML")


_CONTROLS = bytes(code for code in range(1, 0x20) if code not in b"\t\n\r")
#: U+FFFE and U+FFFF are excluded too; of the 32 characters that stand in for others they get two that are not needed.
_PLACES = {**{code: code for code in _CONTROLS}, 0xFFFE: 0, 0xFFFF: 9}
#: Such a character, or a reference to it: decimal or hexadecimal, with any number of leading zeros.
_unrepresentables = re.compile(
    rb"([\x01-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf])"
    rb"|&#(?:0*([1-8]|1[124-9]|2[0-9]|3[01]|6553[45])"
    rb"|[xX]0*([1-8]|[bB]|[cC]|[eE]|[fF]|1[0-9a-fA-F]|[fF]{3}[eEfF]));"
)
_unrepresentable = _unrepresentables.search
_each_unrepresentable = _unrepresentables.sub

#: Characters of the private-use planes 15 and 16, and references to them (from U+F0000, decimal 983040).
_high_characters = re.compile("[\U000f0000-\U0010ffff]").findall
_high_references = re.compile(
    "&#(?:0*(98[3-9][0-9]{3}|99[0-9]{4}|1[0-9]{6})|[xX]0*([fF][0-9a-fA-F]{4}|10[0-9a-fA-F]{4}));"
).findall

#: The private-use planes 15 and 16 in blocks of 32 characters.
_BLOCKS = range(0xF0000, 0x10FFC0, 32)


def _substitute(body: bytes) -> tuple[bytes, Callable[[str], str] | None]:
    """The document with each such character replaced, and what puts the characters back into a text (None where there
    are none: references are mostly to ordinary characters, quotes above all)."""
    if not _unrepresentable(body):
        return body, None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body, None
    taken = {ord(char) >> 5 for char in set(_high_characters(text))}
    for decimal, hexadecimal in set(_high_references(text)):
        taken.add((int(decimal) if decimal else int(hexadecimal, 16)) >> 5)
    base = next((block for block in _BLOCKS if block >> 5 not in taken), None)
    if base is None:
        raise S3Error("MalformedXML")

    literal = b"<![CDATA[" in body  # where a reference is none; nobody writes both

    def stand_in(match: re.Match[bytes]) -> bytes:
        raw, decimal, hexadecimal = match.groups()
        if literal and not raw:
            raise S3Error("MalformedXML")
        code = ord(raw.decode()) if raw else int(decimal) if decimal else int(hexadecimal, 16)
        return chr(base + _PLACES[code]).encode()

    back = {base + place: code for code, place in _PLACES.items()}
    return _each_unrepresentable(stand_in, body), lambda text: text.translate(back)
