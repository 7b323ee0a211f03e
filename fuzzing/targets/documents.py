"""The XML documents that clients send. The first byte of an input chooses the reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from aisobj.protocol import xml
from aisobj.protocol.listing import finish
from aisobj.protocol.s3time import http_date
from aisobj.protocol.xmltext import escape
from fuzzing.target import Label, Target, attempt, demand, kind, same, words


def _read_complete(body: bytes) -> list[xml.CompletePart]:
    return finish(xml.read_complete(body))


_READERS: dict[bytes, Callable[[bytes], Any]] = {
    b"d": xml.read_delete,
    b"c": _read_complete,
    b"v": xml.read_versioning,
    b"b": xml.read_create_bucket,
}


def check(data: bytes) -> Label:
    choice, body = data[:1], data[1:]
    reader = _READERS.get(choice)
    if reader is None:
        return None
    result, error = attempt(lambda: (reader(body),))
    if result is None:
        assert error is not None
        return choice, kind(error)
    (document,) = result
    if reader is xml.read_delete:
        _check_delete(body, *document)
    elif reader is _read_complete:
        _check_complete(body, document)
    return choice, body[:6] == b"<?xml ", len(document) if isinstance(document, list) else document is None


def _check_delete(body: bytes, keys: list[xml.DeleteKey], quiet: bool) -> None:
    demand(1 <= len(keys) <= 1000, "1 to 1,000 keys", len(keys))
    _same_as_any_parser(body, "Object", "Key", [each.key.decode() for each in keys])
    parts = ["<Delete>", f"<Quiet>{str(quiet).lower()}</Quiet>"]
    for each in keys:
        parts.append(f"<Object><Key>{escape(each.key.decode())}</Key>")
        if each.version_id is not None:
            parts.append(f"<VersionId>{escape(each.version_id)}</VersionId>")
        if each.etag is not None:
            parts.append(f'<ETag>"{escape(each.etag)}"</ETag>')
        if each.size is not None:
            parts.append(f"<Size>{each.size}</Size>")
        if each.last_modified is not None:
            parts.append(f"<LastModifiedTime>{http_date(each.last_modified)}</LastModifiedTime>")
        parts.append("</Object>")
    again, error = attempt(lambda: xml.read_delete("".join((*parts, "</Delete>")).encode()))
    if error is None:  # what is rewritten may have become too long
        same(again, (keys, quiet), "what was read is written and read again")


def _check_complete(body: bytes, parts: list[xml.CompletePart]) -> None:
    demand(1 <= len(parts) <= 10_000, "1 to 10,000 parts", len(parts))
    etags = [each.etag for each in parts]
    _same_as_any_parser(body, "Part", "ETag", etags, lambda text: _unquoted(text.strip()))
    document = ["<CompleteMultipartUpload>"]
    for part in parts:
        document.append(f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag>')
        document += [f"<Checksum{name}>{escape(text)}</Checksum{name}>" for name, text in part.checksums.items()]
        document.append("</Part>")
    again, error = attempt(lambda: _read_complete("".join((*document, "</CompleteMultipartUpload>")).encode()))
    if error is None:
        same(again, parts, "what was read is written and read again")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _same_as_any_parser(
    body: bytes, element: str, name: str, found: list[str], form: Callable[[str], str] = str
) -> None:
    """Where the standard library's parser reads the document at all, it reads the same."""
    demand(
        b"<!DOCTYPE" not in body or b"\0" in body or b"<![CDATA[" in body or b"<!--" in body or b"<?" in body,
        "no DTD",
        body,
    )
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        return  # it holds what XML cannot carry
    texts = []
    for child in root:
        if child.tag.rpartition("}")[2] == element:
            texts += [each.text or "" for each in child if each.tag.rpartition("}")[2] == name]
    same(found, [form(text) for text in texts], "any parser reads the same")


_TOKENS = words(
    r"""
    <Delete> <Object> <Key> <VersionId> <ETag> <Size> <LastModifiedTime> </Delete> </Object> </Key> </VersionId>
    </ETag> </Size> </Part> </Status> <CompleteMultipartUpload> <Part> <PartNumber> <ChecksumCRC32> <Status>
    <VersioningConfiguration> <CreateBucketConfiguration> <LocationConstraint> Enabled Suspended <MfaDelete>
    <Quiet> true <?xml\x20version='1.0'\x20encoding='UTF-8'?> encoding='ISO-8859-1' encoding='UTF-16'
    <!DOCTYPE\x20a\x20[<!ENTITY\x20b\x20'c'>]> &b; &amp; &#x1; &#1; &#xFFFE; &#x10FFFF; &#983041; &quot;
    <![CDATA[ ]]> <!-- --> <?a?> \x20xmlns='a' xmlns:b='c' <b: /> \xef\xbb\xbf \xff\xfe \xef\xbf\xbe
    \xf3\xb0\x80\x81 \x01 \x0b
    """
)

TARGETS = [
    Target(
        "xml",
        check,
        "only S3 errors; no DTD; any other parser reads the same; what was read, written and read again, is the same",
        _TOKENS,
        16384,
        1 << 20,
    )
]
