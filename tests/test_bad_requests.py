"""Bad inputs and what they get, continued: names, headers, documents, parameters, heads.

Rows 1 to 32 are in ``test_bad_inputs``, 71 to 73 (time-outs, full disks, corruption) in ``test_error_codes``, 75 to 77
in ``test_channel``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest
from badinputs import BODY, Checked, Rows, World
from s3raw import Answer
from test_s3_conditions import slow_put

ROWS = Rows()
row = ROWS.row


@pytest.mark.parametrize("name", ROWS.by_name)
def test_bad_input(name: str, world: World) -> None:
    ROWS.check(name, world)


@row(33)
def _(w: World) -> Iterator[Checked]:
    for key in ("../x", "..%2fx", "/x", "a//b", "a/", "./", "..", "%2e%2e/%2e%2e/etc/passwd"):
        assert w.open.ask("PUT", f"{w.path}/{key}", body=key.encode()).status == 200
        assert w.open.ask("GET", f"{w.path}/{key}").body == key.encode()
        yield w.open.ask("DELETE", f"{w.path}/{key}"), 204, ""


@row(34)
def _(w: World) -> Iterator[Checked]:
    for key in ("k" * 1025, "%C3%A9" * 512 + "k", "%F0%9F%98%80" * 257):
        yield w.open.ask("PUT", f"{w.path}/{key}", body=b"x"), 400, "KeyTooLongError"


@row(35)
def _(w: World) -> Iterator[Checked]:
    for key in ("%FF", "%C0%AF", "%ED%A0%80", "%zz", "%1", "%"):
        yield w.open.ask("PUT", f"{w.path}/{key}", body=b"x"), 400, "InvalidURI"
    yield w.open.ask("GET", f"{w.path}?prefix=%FF"), 400, "InvalidURI"
    yield w.open.ask("GET", f"{w.path}?prefix=%zz"), 400, "InvalidURI"


@row(36)
def _(w: World) -> Iterator[Checked]:
    for key in ("%00", "kept%00", "kept%00.txt"):
        for method in ("PUT", "GET", "DELETE"):
            yield w.open.ask(method, f"{w.path}/{key}"), 400, "InvalidArgument"


@row(37)
def _(w: World) -> Iterator[Checked]:
    for name in ("a", "AB", "a..b", "-a", "192.168.1.1", "a" * 64, "xn--bucket", "%00%00%00", "..%2f.."):
        yield w.open.ask("PUT", f"/s3/{name}"), 400, "InvalidBucketName"


@row(38)
def _(w: World) -> Iterator[Checked]:
    for fields in ([("x-amz-meta-a", "x" * 2048)], [(f"x-amz-meta-{n}", "x" * 100) for n in range(30)]):
        yield w.open.ask("PUT", w.target, fields, b"x"), 400, "MetadataTooLarge"
        yield w.open.ask("POST", f"{w.target}?uploads", fields), 400, "MetadataTooLarge"


@row(39)
def _(w: World) -> Iterator[Checked]:
    for fields in ([("a", "x" * 17_000)], [(f"a{n}", "x") for n in range(101)]):
        yield w.open.ask("PUT", w.target, fields, b"x"), 400, "RequestHeaderSectionTooLarge"
    yield w.open.ask("GET", f"{w.path}?prefix={'x' * 17_000}"), 400, "RequestHeaderSectionTooLarge"


@row(40)
def _(w: World) -> Iterator[Checked]:
    for value in (b"a\rb", b"a\nb", b"a\0b", b"a\r\n b"):
        yield w.open.ask("PUT", w.target, [("x-amz-meta-a", value)], b"x"), 400, "BadRequest"
    for value in (b"a\x01b", b"a\x7fb"):
        assert w.open.ask("PUT", w.target, [("x-amz-meta-a", value)], b"x").status == 400


@row(41)
def _(w: World) -> Iterator[Checked]:
    for value in ("a%0d%0aSet-Cookie:x", "a%0aSet-Cookie:x", "%00", "a%7f"):
        target = f"{w.path}/kept?response-content-disposition={value}"
        answer = w.signed.ask("GET", target)
        assert "set-cookie" not in answer.headers
        yield answer, 400, "InvalidArgument"
    yield w.open.ask("GET", f"{w.path}/kept?response-content-type=text/html"), 400, "InvalidRequest"


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a0 "x">'
    + b"".join(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 20))
    + b"]><%b>&a19;</%b>"
)
EXTERNAL = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><%b>&a;</%b>'
DTD = b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><%b/>'


def routes(w: World) -> list[tuple[str, str, bytes]]:
    """Every request that carries a document, and its root."""
    return [
        ("PUT", "/s3/of-a-bad-document", b"CreateBucketConfiguration"),
        ("PUT", f"{w.path}?versioning", b"VersioningConfiguration"),
        ("POST", f"{w.path}?delete", b"Delete"),
        ("POST", f"{w.target}?uploadId={'0' * 32}", b"CompleteMultipartUpload"),
    ]


def post(w: World, method: str, target: str, document: bytes) -> Answer:
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    return w.open.ask(method, target, [("Content-MD5", md5)], document)


@row(42)
def _(w: World) -> Iterator[Checked]:
    for method, target, root in routes(w):
        for document in (
            b"<",
            b"x",
            b"<%b>" % root,
            b"<%b></%bx>" % (root, root),
            b"<Other/>",
            b"\xff\xfe<%b/>" % root,
            b'<?xml version="1.0" encoding="utf-99"?><%b/>' % root,
            DTD % root,
            EXTERNAL % (root, root),
            BOMB % (root, root),
            b"<%b>" % root + b"<a>" * 50_000,
        ):
            yield post(w, method, target, document), 400, "MalformedXML"


@row(43, "over their cap", once=True)
def _(w: World) -> Iterator[Checked]:
    for method, target, root in routes(w):
        size = 9 << 20
        head = w.open.head(method, target, [("Content-MD5", base64.b64encode(b"x" * 16).decode())], length=size)
        yield w.open.send(head), 400, "MalformedXML"  # before a byte of it is sent
        chunked = w.open.head(
            method, target, [("Content-MD5", base64.b64encode(b"x" * 16).decode()), ("Transfer-Encoding", "chunked")]
        )
        piece = b"100000\r\n" + b"<" + root + b" " * ((1 << 20) - 1 - len(root)) + b"\r\n"
        yield w.open.send(chunked + piece * 9 + b"0\r\n\r\n"), 400, "MalformedXML"


@row(43, "that would take seconds", once=True)
def _(w: World) -> Iterator[Checked]:
    attributes = b" ".join(b'a%d="x"' % number for number in range(600_000))
    for start, inside in (
        (b"<Delete " + attributes + b">", b""),
        (b"<Delete>", b"&#1;" * 1_900_000),
        (b"<Delete>", b"\x01" * 8_000_000),
        (b"<Delete>", b"&#" + b"0" * 8_000_000),
    ):
        document = start + b"<Object><Key>" + inside + b"k</Key></Object></Delete>"
        yield post(w, "POST", f"{w.path}?delete", document), 400, "MalformedXML"


@row(44)
def _(w: World) -> Iterator[Checked]:
    for count in (0, 1001):
        document = b"<Delete>" + b"<Object><Key>kept</Key></Object>" * count + b"</Delete>"
        yield post(w, "POST", f"{w.path}?delete", document), 400, "MalformedXML"


@row(45)
def _(w: World) -> Iterator[Checked]:
    document = b"<Delete><Object><Key>kept</Key></Object></Delete>"
    for sender in (w.open, w.signed):
        answer = sender.ask("POST", f"{w.path}?delete", body=document)
        assert "Content-MD5 OR x-amz-checksum-*" in (answer.element("Message") or "")
        yield answer, 400, "InvalidRequest"


@row(46)
def _(w: World) -> Iterator[Checked]:
    upload = w.open.ask("POST", f"{w.target}?uploads").element("UploadId")
    target = f"{w.target}?uploadId={upload}"
    etags = [w.open.ask("PUT", f"{target}&partNumber={n}", body=b"%d" % n).headers["etag"] for n in (1, 2)]

    def complete(*parts: tuple[int, str]) -> Answer:
        inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
        return post(w, "POST", target, f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode())

    yield complete(), 400, "MalformedXML"
    yield complete((3, etags[0])), 400, "InvalidPart"
    yield complete((1, etags[1])), 400, "InvalidPart"
    yield complete((1, "x" * 10_000)), 400, "InvalidPart"
    yield complete((2, etags[1]), (1, etags[0])), 400, "InvalidPartOrder"
    yield complete((1, etags[0]), (2, etags[1])), 400, "EntityTooSmall"
    yield w.open.ask("DELETE", target), 204, ""


@row(47)
def _(w: World) -> Iterator[Checked]:
    for number in ("0", "10001", "abc", "", "-1", "%D9%A1", "9" * 5000):
        target = f"{w.target}?partNumber={number}&uploadId={'0' * 32}"
        yield w.open.ask("PUT", target, body=b"x"), 400, "InvalidArgument"
        yield w.open.ask("GET", f"{w.path}/kept?partNumber={number}"), 400, "InvalidArgument"


@row(48)
def _(w: World) -> Iterator[Checked]:
    for upload in ("x", "0" * 32, "..%2F..%2F..%2Fetc%2Fpasswd", "%00", ""):
        target = f"{w.target}?uploadId={upload}"
        yield w.open.ask("PUT", f"{target}&partNumber=1", body=b"x"), 404, "NoSuchUpload"
        yield w.open.ask("GET", target), 404, "NoSuchUpload"
        yield w.open.ask("DELETE", target), 404, "NoSuchUpload"


@row(49)
def _(w: World) -> Iterator[Checked]:
    for size in ((5 << 30) + 1, 1 << 40, 9 * 10**18):
        for sender in (w.open, w.signed):
            answer = sender.send(sender.head("PUT", w.target, payload="UNSIGNED-PAYLOAD", length=size))
            yield answer, 400, "EntityTooLarge"
    fields = [("x-amz-decoded-content-length", str(1 << 40))]
    head = w.signed.head("PUT", w.target, fields, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER", length=1 << 40)
    yield w.signed.send(head), 400, "EntityTooLarge"


@row(50)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("GET", f"{w.path}/kept", [("Range", f"bytes={len(BODY)}-")]), 416, "InvalidRange"
    yield w.open.ask("GET", f"{w.path}/kept", [("Range", "bytes=-0")]), 416, "InvalidRange"


@row(51)
def _(w: World) -> Iterator[Checked]:
    for value in ("bytes=x", "lines=1-2", "bytes=9-1", "bytes=" + ",".join(["0-0"] * 1000), "bytes=" + "-" * 5000):
        answer = w.open.ask("GET", f"{w.path}/kept", [("Range", value)])
        assert (answer.status, answer.body) == (200, BODY)
    yield w.open.ask("GET", f"{w.path}/kept", [("Range", "bytes=99-")]), 416, "InvalidRange"


@row(52)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("GET", f"{w.path}/kept?partNumber=1", [("Range", "bytes=0-1")]), 400, "InvalidRequest"


@row(53)
def _(w: World) -> Iterator[Checked]:
    for value in ("-1", "abc", str(2**31), "1.5", "%201", "9" * 5000):
        for version in ("", "list-type=2&"):
            yield w.open.ask("GET", f"{w.path}?{version}max-keys={value}"), 400, "InvalidArgument"


@row(54)
def _(w: World) -> Iterator[Checked]:
    for query in ("encoding-type=foo", "list-type=2&continuation-token=x", "list-type=2&continuation-token=%00"):
        yield w.open.ask("GET", f"{w.path}?{query}"), 400, "InvalidArgument"


@row(55)
def _(w: World) -> Iterator[Checked]:
    for value in ("", "/", "kept", "..", "/../..", f"{w.bucket}/%00", f"{w.bucket}/", "BAD/kept", "%zz/kept"):
        yield w.open.ask("PUT", w.target, [("x-amz-copy-source", value)]), 400, "InvalidArgument"


@row(56)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("PUT", f"{w.path}/kept", [("x-amz-copy-source", f"{w.bucket}/kept")]), 400, "InvalidRequest"


@row(57)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("PUT", f"{w.path}/kept", [("If-None-Match", "*")], b"x"), 412, "PreconditionFailed"


@row(58)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("PUT", w.target, [("If-Match", '"x"')], b"x"), 404, "NoSuchKey"


@row(59)
def _(w: World) -> Iterator[Checked]:
    kept = f"{w.path}/kept"
    etag = w.open.ask("HEAD", kept).headers["etag"]
    answer = slow_put(w.open, kept, [("If-Match", etag)], b"mine", lambda: w.open.ask("PUT", kept, body=BODY))
    yield answer, 409, "ConditionalRequestConflict"


@row(60)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("DELETE", w.path), 409, "BucketNotEmpty"


@row(61)
def _(w: World) -> Iterator[Checked]:
    for target in (f"{w.path}/kept", w.target, w.path, "/s3/no-such-bucket", "/s3/BAD", f"{w.path}/%FF"):
        for fields in ([], [("If-None-Match", "*")]):
            yield w.unsigned.ask("GET", target, fields), 403, "AccessDenied"


@row(62)
def _(w: World) -> Iterator[Checked]:
    for query in ("acl", "tagging", "newthing", "newthing=1", "retention", "x-id=PutObject&acl"):
        yield w.open.ask("PUT", f"{w.path}/kept?{query}", body=b"x"), 501, "NotImplemented"
    for name in ("x-amz-server-side-encryption", "x-amz-tagging", "x-amz-object-lock-mode", "x-amz-grant-read"):
        yield w.open.ask("PUT", w.target, [(name, "a=b")], b"x"), 501, "NotImplemented"


@row(63)
def _(w: World) -> Iterator[Checked]:
    for method, target in (("POST", w.target), ("PATCH", w.target), ("DELETE", "/s3"), ("PATCH", w.path)):
        answer = w.open.ask(method, target)
        assert answer.headers["allow"]
        yield answer, 405, "MethodNotAllowed"


@row(65)
def _(w: World) -> Iterator[Checked]:
    yield w.open.ask("PUT", w.target, [("x-amz-acl", "everybody")], b"x"), 400, "InvalidArgument"
    yield w.open.ask("PUT", w.target, [("x-amz-acl", "public-read")], b"x"), 501, "NotImplemented"


@row(67)
def _(w: World) -> Iterator[Checked]:
    yield w.open.send(f"GET {w.path} HTTP/1.1\r\n\r\n".encode()), 400, "BadRequest"
    yield w.open.send(f"GET {w.path} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".encode()), 400, "BadRequest"
    yield w.open.ask("GET", w.path, [("host", "evil.com")]), 403, "AccessDenied"


@row(68)
def _(w: World) -> Iterator[Checked]:
    for origin in ("https://evil", "null", f"https://{w.open.host}.evil"):
        for method in ("PUT", "POST", "DELETE"):
            yield w.open.ask(method, f"{w.path}/kept", [("Origin", origin)]), 403, "AccessDenied"


@row(69)
def _(w: World) -> Iterator[Checked]:
    host = w.open.host
    yield w.open.send(f"GET http://evil.com{w.path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()), 400, "InvalidURI"
    for tail in ("A: b\r\n c: d\r\n\r\n", "A: b\nC: d\r\n\r\n", "A: b\n\n"):
        yield w.open.send(f"PUT {w.target} HTTP/1.1\r\nHost: {host}\r\n{tail}".encode()), 400, "BadRequest"


@row(70)
def _(w: World) -> Iterator[Checked]:
    with w.open.connect() as wire:
        wire.send(b"".join(w.open.request("GET", f"{w.path}/missing-{number}") for number in range(100)))
        for number in range(100):
            answer = wire.answer()
            assert answer.element("Key") == f"missing-{number}"
            yield answer, 404, "NoSuchKey"


@row(74)
def _(w: World) -> Iterator[Checked]:
    for data in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"G@T / HTTP/1.1\r\n",
    ):
        with w.open.connect() as wire:
            wire.send(data)
            answer = wire.answer()
            assert wire.closed()
        yield answer, 400, "BadRequest"
