"""Bad inputs and what they get: bodies, digests, signatures. Names, documents and the rest: ``test_bad_requests``."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from badinputs import Checked, Rows, World
from s3raw import STREAMING, UNSIGNED_TRAILER, Answer, Sender

ROWS = Rows()
row = ROWS.row


@pytest.fixture(scope="module")
def world(server: Any, signed_server: Any, slow_connections: Any) -> World:
    """``slow_connections``: their time begins here and is looked at in ``test_error_codes``."""
    return World(server, signed_server)


@pytest.mark.parametrize("name", ROWS.by_name)
def test_bad_input(name: str, world: World) -> None:
    ROWS.check(name, world)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


CRC32 = "x-amz-checksum-crc32"
CRC32_OF_X = b64(zlib.crc32(b"x").to_bytes(4, "big"))


@row(1)
def _(w: World) -> Iterator[Checked]:
    for value in ("?", "", "AAAA", b64(b"x" * 15), b64(b"x" * 17)):
        yield w.open.ask("PUT", w.target, [("Content-MD5", value)], b"x"), 400, "InvalidDigest"


@row(2)
def _(w: World) -> Iterator[Checked]:
    right, wrong = (("Content-MD5", b64(hashlib.md5(body).digest())) for body in (b"x", b"y"))
    yield w.open.ask("PUT", w.target, [wrong], b"x"), 400, "BadDigest"
    for both in ([right, wrong], [wrong, right]):
        yield closing(w.open.ask("PUT", w.target, both, b"x")), 400, "InvalidRequest"


@row(3)
def _(w: World) -> Iterator[Checked]:
    payload = hashlib.sha256(b"y").hexdigest()
    for sender in (w.open, w.signed):
        yield sender.ask("PUT", w.target, body=b"x", payload=payload), 400, "XAmzContentSHA256Mismatch"


@row(4)
def _(w: World) -> Iterator[Checked]:
    for length, sent in ((10, b""), (10, b"x" * 9), (200_000, b"x" * 199_999)):
        for sender in (w.open, w.signed):
            head = sender.head("PUT", w.target, payload="UNSIGNED-PAYLOAD", length=length)
            answer = sender.send(head + sent, end=True)
            assert answer.headers["connection"] == "close"
            yield answer, 400, "IncompleteBody"


@row(5)
def _(w: World) -> Iterator[Checked]:
    for sender in (w.open, w.signed):
        yield sender.send(sender.head("PUT", w.target)), 411, "MissingContentLength"
        yield sender.send(sender.head("PUT", f"{w.target}?partNumber=1&uploadId={'0' * 32}")), 404, "NoSuchUpload"
        for method, target in (
            ("PUT", f"{w.path}?versioning"),
            ("POST", f"{w.path}?delete"),
            ("POST", f"{w.target}?uploadId={'0' * 32}"),
        ):
            yield sender.send(sender.head(method, target)), 411, "MissingContentLength"
            with_digest = [("Content-MD5", b64(hashlib.md5(b"").digest()))]
            yield sender.ask(method, target, with_digest), 400, "MalformedXML"  # an empty one is none, but announced
        # What may do without a body need not say that there is none
        upload = sender.send(sender.head("POST", f"{w.target}?uploads")).element("UploadId")
        assert sender.send(sender.head("DELETE", f"{w.target}?uploadId={upload}")).status == 204
        yield sender.send(sender.head("PUT", w.path)), 409, "BucketAlreadyOwnedByYou"


def closing(answer: Answer) -> Answer:
    assert answer.headers["connection"] == "close"
    return answer


@row(6)
def _(w: World) -> Iterator[Checked]:
    for value in ("-1", "+5", "5, 5", "5 5", "0x5", "5.0", "", "9" * 20, "9" * 5000):
        head = w.open.head("PUT", w.target, [("Content-Length", value)])
        yield closing(w.open.send(head + b"x" * 5)), 400, "BadRequest"


@row(7)
def _(w: World) -> Iterator[Checked]:
    smuggled = w.open.request("DELETE", f"{w.path}/kept")
    for fields in (
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5"), ("Content-Length", "5")],
        [("Transfer-Encoding", "xchunked")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")],
    ):
        with w.open.connect() as wire:
            wire.send(w.open.head("PUT", w.target, fields) + b"0\r\n\r\n" + smuggled)
            yield closing(wire.answer()), 400, "BadRequest"
            assert wire.closed()  # no second answer


@row(8)
def _(w: World) -> Iterator[Checked]:
    head = w.open.head("PUT", w.target, [("Transfer-Encoding", "chunked")])
    for body in (
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"f" * 17 + b"\r\n",
        b"5;" + b"x" * 1000 + b"\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"\r\n",
    ):
        yield closing(w.open.send(head + body)), 400, "BadRequest"


@row(9)
def _(w: World) -> Iterator[Checked]:
    for mode in (STREAMING, UNSIGNED_TRAILER):
        for keep in (4000, -20, -3):
            answer = w.signed.put_chunked(
                w.target, [b"x" * 9000], mode=mode, change=lambda body, keep=keep: body[:keep]
            )
            yield answer, 400, "IncompleteBody"


@row(10)
def _(w: World) -> Iterator[Checked]:
    for mode in (STREAMING, UNSIGNED_TRAILER):
        yield w.signed.put_chunked(w.target, [b"x"], mode=mode, decoded_length=-1), 411, "MissingContentLength"


@row(11)
def _(w: World) -> Iterator[Checked]:
    for mode in (STREAMING, UNSIGNED_TRAILER):
        for length in (0, 4, 6, 1 << 32):
            answer = w.signed.put_chunked(w.target, [b"hello"], mode=mode, decoded_length=length)
            yield answer, 400, "IncompleteBody"


@row(12)
def _(w: World) -> Iterator[Checked]:
    for number in range(3):

        def change(body: bytes, number: int = number) -> bytes:
            pieces = body.split(b"chunk-signature=")
            pieces[number + 1] = b"0" * 64 + pieces[number + 1][64:]
            return b"chunk-signature=".join(pieces)

        answer = w.signed.put_chunked(w.target, [b"x" * 9000, b"y"], mode=STREAMING, change=change)
        yield answer, 403, "SignatureDoesNotMatch"


@row(13)
def _(w: World) -> Iterator[Checked]:
    yield w.signed.put_chunked(w.target, [b"x" * 8191, b"y"], mode=STREAMING), 403, "InvalidChunkSizeError"


@row(14)
def _(w: World) -> Iterator[Checked]:
    announced = [("x-amz-trailer", CRC32)]
    for trailers in ([], [("x-amz-checksum-sha1", b64(hashlib.sha1(b"x").digest()))], [("no trailer", "x")]):
        yield w.open.put_chunked(w.target, [b"x"], headers=announced, trailers=trailers), 400, "MalformedTrailerError"
    for sender in (w.open, w.signed):  # a body that can have none
        yield sender.ask("PUT", w.target, announced, b"x"), 400, "MalformedTrailerError"


@row(15)
def _(w: World) -> Iterator[Checked]:
    yield w.open.put_chunked(w.target, [b"y"], trailers=[(CRC32, CRC32_OF_X)]), 400, "BadDigest"


@row(16)
def _(w: World) -> Iterator[Checked]:
    two = [(CRC32, CRC32_OF_X), ("x-amz-checksum-sha1", b64(hashlib.sha1(b"x").digest()))]
    for fields in (two, [("x-amz-checksum-md4", "AAAA")], [("x-amz-sdk-checksum-algorithm", "MD4")]):
        yield w.open.ask("PUT", w.target, fields, b"x"), 400, "InvalidRequest"
    sdk = ("x-amz-sdk-checksum-algorithm", "SHA1")  # says that there is one
    for fields in ([sdk], [sdk, (CRC32, CRC32_OF_X)]):
        yield w.open.ask("PUT", w.target, fields, b"x"), 400, "InvalidRequest"
    trailers = [(CRC32, CRC32_OF_X)]
    yield w.open.put_chunked(w.target, [b"x"], headers=[sdk], trailers=trailers), 400, "InvalidRequest"


@row(17)
def _(w: World) -> Iterator[Checked]:
    same = [(CRC32, CRC32_OF_X)]
    yield w.open.put_chunked(w.target, [b"x"], headers=same, trailers=same), 400, "InvalidRequest"


@row(18)
def _(w: World) -> Iterator[Checked]:
    answer = w.by().put_chunked(w.target, [b"x"], trailers=[(CRC32, CRC32_OF_X)])
    yield answer, 403, "SignatureDoesNotMatch"
    query = presign(w, extra=f"&X-Amz-Content-Sha256={UNSIGNED_TRAILER}")
    yield w.unsigned.put_chunked(f"{w.target}?{query}", [b"x"], headers=[("x-amz-meta-a", "b")]), 403, "AccessDenied"
    body = b"1\r\nx\r\n0\r\n\r\n"
    yield w.unsigned.send(w.unsigned.head("PUT", f"{w.target}?{query}", length=11) + body), 403, "SignatureDoesNotMatch"


@row(19)
def _(w: World) -> Iterator[Checked]:
    yield w.by("AKIAUNKNOWN").ask("PUT", w.target, body=b"x"), 403, "InvalidAccessKeyId"


@row(20)
def _(w: World) -> Iterator[Checked]:
    for method in ("GET", "PUT", "DELETE"):
        yield w.by().ask(method, f"{w.path}/kept"), 403, "SignatureDoesNotMatch"


@row(21)
def _(w: World) -> Iterator[Checked]:
    for offset in (-16 * 60, 16 * 60, -86400 * 365):
        yield w.signed.ask("PUT", w.target, body=b"x", now=time.time() + offset), 403, "RequestTimeTooSkewed"
    for offset in (-14 * 60, 14 * 60):
        assert w.signed.ask("GET", w.path, now=time.time() + offset).status == 200


def resigned(w: World, old: bytes, new: bytes) -> Answer:
    """A right request with one thing changed in its head."""
    head = w.signed.request("PUT", w.target, body=b"x")
    assert head.count(old) == 1
    return w.signed.send(head.replace(old, new))


@row(22)
def _(w: World) -> Iterator[Checked]:
    yield resigned(w, b"x-amz-date:", b"x-ignored:"), 403, "AccessDenied"
    head = w.signed.request("PUT", w.target, body=b"x")
    date = w.signed.signature.amz_date
    for bad in (b"yesterday", b"20200230T000000Z", b"20200101T250000Z", b"Tue, 07 Jul 1950 21:53:04 GMT", b""):
        changed = head.replace(b"x-amz-date: " + date, b"x-amz-date: " + bad)
        yield w.signed.send(changed), 403, "AccessDenied"


def authorization(w: World, value: str) -> Answer:
    head = w.unsigned.head("PUT", w.target, [("authorization", value), ("x-amz-date", amz_date())], length=1)
    return w.unsigned.send(head + b"x")


def amz_date() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


@row(23)
def _(w: World) -> Iterator[Checked]:
    for value in (
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 x",
        "AWS4-HMAC-SHA256 Credential=, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/aws4_request, SignedHeaders=host",
        f"AWS4-HMAC-SHA256 {','.join('Credential=a' for _ in range(500))}",
    ):
        yield authorization(w, value), 400, "AuthorizationHeaderMalformed"


@row(24)
def _(w: World) -> Iterator[Checked]:
    for value in ("Bearer x", "Basic eDp5", "aws4-hmac-sha256 x", "x", "AWS3 a:b"):
        answer = authorization(w, value)
        assert answer.element("Message") == "Unsupported Authorization Type"
        yield answer, 400, "InvalidArgument"


@row(25)
def _(w: World) -> Iterator[Checked]:
    for old, new in ((b"/s3/aws4_request", b"/ec2/aws4_request"), (b"/aws4_request", b"/aws5_request")):
        yield resigned(w, old, new), 400, "AuthorizationHeaderMalformed"
    today = time.strftime("%Y%m%d", time.gmtime()).encode()
    yield resigned(w, b"/" + today + b"/", b"/20200101/"), 400, "AuthorizationHeaderMalformed"
    for part, new in (("/s3/", "/ec2/"), ("/aws4_request", "/aws5_request"), (f"/{today.decode()}/", "/20200101/")):
        query = presign(w).replace(part.replace("/", "%2F"), new.replace("/", "%2F"))
        yield w.unsigned.ask("GET", f"{w.target}?{query}"), 400, "AuthorizationQueryParametersError"


def presign(
    w: World, *, date: str | None = None, expires: str = "60", signature: str = "0" * 64, extra: str = ""
) -> str:
    """The query of a presigned URL whose signature is wrong unless it is given."""
    assert w.user is not None
    date = date or amz_date()
    credential = f"{w.user.access_key}/{date[:8]}/us-east-1/s3/aws4_request".replace("/", "%2F")
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires={expires}"
        f"&X-Amz-SignedHeaders=host{extra}&X-Amz-Signature={signature}"
    )


@row(26)
def _(w: World) -> Iterator[Checked]:
    answer = w.unsigned.ask("GET", f"{w.target}?{presign(w, date='20200101T000000Z')}")
    assert answer.element("Message") == "Request has expired"
    yield answer, 403, "AccessDenied"


@row(27)
def _(w: World) -> Iterator[Checked]:
    for expires in ("0", "-1", "abc", "604801", "", "1e3", "9" * 5000):
        answer = w.unsigned.ask("GET", f"{w.target}?{presign(w, expires=expires)}")
        yield answer, 400, "AuthorizationQueryParametersError"


@row(28)
def _(w: World) -> Iterator[Checked]:
    for query in (presign(w), "AWSAccessKeyId=a&Signature=b&Expires=9999999999"):
        yield w.signed.ask("GET", f"{w.path}/kept?{query}"), 400, "InvalidArgument"


@row(29)
def _(w: World) -> Iterator[Checked]:
    for name in ("x-amz-meta-a", "x-amz-acl", "x-amz-copy-source", "x-amz-anything"):
        yield w.signed.ask("PUT", w.target, body=b"x", later=[(name, "private")]), 403, "AccessDenied"


@row(30)
def _(w: World) -> Iterator[Checked]:
    yield resigned(w, b"SignedHeaders=host;", b"SignedHeaders="), 403, "AccessDenied"


@row(31)
def _(w: World) -> Iterator[Checked]:
    for name in ("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Expires"):
        answer = w.unsigned.ask("GET", f"{w.target}?{presign(w)}&{name}=x")
        yield answer, 400, "AuthorizationQueryParametersError"


@row(32)
def _(w: World) -> Iterator[Checked]:
    for signed_for, sent in (("a//b", "a/b"), ("a/b", "a//b"), ("x", "./x"), ("x", "%2e%2e/x"), ("%2e%2e/x", "x")):
        head = w.signed.request("PUT", f"{w.path}/{signed_for}", body=b"x")
        changed = head.replace(f"{w.path}/{signed_for} ".encode(), f"{w.path}/{sent} ".encode(), 1)
        yield w.signed.send(changed), 403, "SignatureDoesNotMatch"


def test_the_helper_signs_rightly(world: World) -> None:
    """So that the rows above fail for what they are about."""
    sender: Sender = world.signed
    assert sender.ask("PUT", f"{world.path}/a//b", body=b"x").status == 200
    assert sender.ask("DELETE", f"{world.path}/a//b").status == 204
    world.check()
