"""Requests that are right, and what can be done to them: to a part before it is signed, to the coded body, to the bytes
on the wire. What comes of a seed is always the same (but for signatures, dates, and ids of uploads)."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Sequence
from random import Random

from reliability.handmade import (
    STREAMING,
    STREAMING_TRAILER,
    UNSIGNED,
    UNSIGNED_TRAILER,
    Parts,
    User,
    assemble,
)

BUCKET = b"bucket"
_SMALL = b"what is to be stored"
_LARGE = bytes(range(256)) * 160


def _md5(document: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-md5", base64.b64encode(hashlib.md5(document).digest()))]


def _crc32(body: bytes) -> bytes:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))


_DELETE = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>null</VersionId></Object></Delete>"
_COMPLETE = (
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;e&quot;</ETag></Part>"
    b"<Part><PartNumber>2</PartNumber><ETag>f</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>"
)
_CONFIGURATION = (
    b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>"
)
_VERSIONING = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
_JSON = [(b"content-type", b"application/json")]
_PROPS = b'{"action":"set-bprops","name":"x","value":{"checksum":{"type":"xxhash","validate_warm_get":false}}}'


def originals(upload: bytes) -> list[Parts]:
    """Right requests: every operation, every way to sign, every coding of a body.

    :param upload: the id of one that has been begun for the key ``up``.
    """
    there, new, bucket = b"/s3/bucket/kept", b"/s3/bucket/new", b"/s3/bucket"
    part = b"partNumber=1&uploadId=" + upload
    crc = (b"x-amz-checksum-crc32", _crc32(_SMALL))
    return [
        Parts(b"GET", there),
        Parts(b"GET", b"/bucket/kept", where="query"),
        Parts(b"GET", there, b"response-content-type=text%2Fplain&response-cache-control=no-cache", where="query"),
        Parts(b"GET", there, headers=[(b"range", b"bytes=1-3")], where="v2"),
        Parts(b"GET", there, headers=[(b"range", b"bytes=-5"), (b"if-range", b'"x"')]),
        Parts(b"GET", there, b"partNumber=1", [(b"x-amz-checksum-mode", b"ENABLED")]),
        Parts(b"GET", there, b"versionId=null", [(b"if-none-match", b'"x", W/"y", *')]),
        Parts(b"GET", there, b"", [(b"if-modified-since", b"Tue, 07 Jul 2020 21:53:04 GMT"), (b"if-match", b'"z"')]),
        Parts(b"HEAD", there),
        Parts(b"GET", there, b"tagging"),
        Parts(b"PUT", new, body=_SMALL),
        Parts(b"PUT", new, body=_SMALL, where="query"),
        Parts(b"PUT", new, body=_SMALL, payload=UNSIGNED, transfer=True, chunk=7),
        Parts(
            b"PUT", new, headers=[*_md5(_SMALL), crc, (b"x-amz-meta-a", b"b"), (b"cache-control", b"x")], body=_SMALL
        ),
        Parts(b"PUT", new, headers=[(b"if-none-match", b"*"), (b"x-amz-storage-class", b"STANDARD")], body=_SMALL),
        Parts(b"PUT", new, headers=[(b"expect", b"100-continue")], body=_SMALL),
        Parts(b"PUT", new, body=_LARGE, payload=STREAMING, chunk=8192),
        Parts(b"PUT", new, body=_SMALL, payload=STREAMING),
        Parts(b"PUT", new, body=_SMALL, payload=STREAMING_TRAILER, trailers=[crc]),
        Parts(b"PUT", new, body=_SMALL, payload=UNSIGNED_TRAILER, trailers=[crc], chunk=5),
        Parts(b"PUT", new, body=_LARGE, payload=UNSIGNED_TRAILER, trailers=[(crc[0], _crc32(_LARGE))], transfer=True),
        Parts(
            b"PUT", new, headers=[(b"x-amz-copy-source", b"/bucket/kept"), (b"x-amz-metadata-directive", b"REPLACE")]
        ),
        Parts(b"PUT", new, headers=[(b"x-amz-copy-source", b"bucket/kept?versionId=null")]),
        Parts(b"DELETE", new),
        Parts(b"DELETE", new, headers=[(b"if-match", b'"x"')]),
        Parts(b"POST", b"/s3/bucket/up", b"uploads", [(b"x-amz-checksum-algorithm", b"CRC32")]),
        Parts(b"PUT", b"/s3/bucket/up", part, body=_SMALL),
        Parts(
            b"PUT",
            b"/s3/bucket/up",
            part,
            [(b"x-amz-copy-source", b"bucket/kept"), (b"x-amz-copy-source-range", b"bytes=0-3")],
        ),
        Parts(b"POST", b"/s3/bucket/up", b"uploadId=" + upload, body=_COMPLETE),
        Parts(b"GET", b"/s3/bucket/up", b"uploadId=" + upload + b"&max-parts=2&part-number-marker=0"),
        Parts(b"DELETE", b"/s3/bucket/up", b"uploadId=00000000000000000000000000000000"),
        Parts(b"GET", b"/s3", b"max-buckets=2&prefix=b"),
        Parts(b"GET", bucket, b"prefix=k&delimiter=%2F&marker=a&max-keys=3&encoding-type=url"),
        Parts(b"GET", bucket, b"list-type=2&max-keys=1&start-after=a&fetch-owner=true"),
        Parts(b"GET", bucket, b"list-type=2&continuation-token=AAAA"),
        Parts(b"GET", bucket, b"uploads&max-uploads=2&key-marker=a&upload-id-marker=" + upload),
        Parts(b"GET", bucket, b"location", where="query"),
        Parts(b"PUT", bucket, b"versioning", body=_VERSIONING),
        Parts(b"PUT", b"/s3/another-bucket", body=_CONFIGURATION),
        Parts(b"DELETE", b"/s3/another-bucket"),
        Parts(b"POST", bucket, b"delete", _md5(_DELETE), _DELETE),
        Parts(b"OPTIONS", there, headers=[(b"origin", b"https://x"), (b"access-control-request-method", b"PUT")]),
        Parts(b"GET", b"/v1/buckets", b"provider=ais", list(_JSON), b'{"action":"list","name":"","value":null}'),
        Parts(
            b"GET",
            b"/v1/buckets/bucket",
            b"",
            list(_JSON),
            b'{"action":"list","value":{"prefix":"","pagesize":2,"props":"name,size"}}',
        ),
        Parts(b"PATCH", b"/v1/buckets/bucket", b"provider=ais", list(_JSON), _PROPS),
        Parts(b"HEAD", b"/v1/buckets/bucket"),
        Parts(b"PUT", b"/v1/objects/bucket/new", b"provider=ais", body=_SMALL),
        Parts(b"GET", b"/v1/objects/bucket/kept", b"provider=ais", [(b"range", b"bytes=0-2")]),
        Parts(b"HEAD", b"/v1/objects/bucket/kept", b"props=name,size,checksum"),
        Parts(b"DELETE", b"/v1/objects/bucket/new", b"provider=ais"),
        Parts(b"GET", b"/v1/daemon", b"what=smap"),
        Parts(b"GET", b"/metrics", where=""),
        Parts(b"GET", b"/-/ready", where=""),
    ]


#: What parsers have stumbled over.
_WORDS = [
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\n ", b"\x0b", b"\x7f", b"\x80", b"\xff", b"\xc0\xaf",
    b"\xed\xa0\x80", b"\xef\xbf\xbf", b"\xf4\x90\x80\x80", b"%", b"%0", b"%00", b"%zz", b"%FF", b"%0d%0a",
    b"%2e%2e%2f", b"%25", b"%u0041", b"../", b"/", b"//", b"\\", b"?", b"??", b"#", b"&", b"&&", b"=", b"==", b";",
    b",", b":", b"*", b"+", b" ", b"\t", b'"', b"'", b"<", b">", b"</", b"/>", b"<a>", b"]]>", b"<![CDATA[", b"<!--",
    b"<?x?>", b"<!DOCTYPE a>", b"&lt;", b"&a;", b"&#0;", b"&#xD800;", b"&#x10FFFF;", b"&#99999999999;",
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>', b"-1", b"0", b"00", b"1e9", b"0x10", b"+1", b"1.5",
    b"NaN", b"2147483648", b"9223372036854775807", b"18446744073709551616", b"9" * 40, b"1" * 5000, b"\xd9\xa1",
    b"null", b"true", b"{", b"}", b"[" * 2000, b'{"a":' * 400, b"bytes=", b"chunked", b"identity", b"aws-chunked",
    b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 300, b"x" * 9000, b"\xf0\x9f\x98\x80", b"STREAMING-",
    b"UNSIGNED-PAYLOAD", b"AWS4-HMAC-SHA256 ", b"X-Amz-Signature=", b"uploadId=", b"acl",
]  # fmt: skip

#: Headers that change how a request is read; added to, or instead of, its own.
_FIELDS = [
    (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"gzip"), (b"content-length", b"5"),
    (b"content-length", b"-1"), (b"content-length", b"99999999999999999999"), (b"content-length", b"100000000"),
    (b"host", b"evil"), (b"host", b""), (b"connection", b"close"), (b"connection", b"keep-alive, x"),
    (b"upgrade", b"h2c"), (b"expect", b"100-continue"), (b"expect", b"200-ok"), (b"content-encoding", b"aws-chunked"),
    (b"content-encoding", b"gzip,aws-chunked"), (b"x-amz-decoded-content-length", b"20"),
    (b"x-amz-decoded-content-length", b"-5"), (b"x-amz-trailer", b"x-amz-checksum-crc32"), (b"x-amz-trailer", b"x"),
    (b"x-amz-content-sha256", b"nonsense"), (b"x-amz-content-sha256", UNSIGNED_TRAILER.encode()),
    (b"x-amz-date", b"20200230T000000Z"), (b"date", b"never"), (b"authorization", b"AWS4-HMAC-SHA256"),
    (b"authorization", b"AWS a:b"),
    (b"authorization", b"AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/aws4_request, SignedHeaders=host, Signature=0"),
    (b"x-amz-copy-source", b""), (b"x-amz-copy-source", b"/../.."), (b"x-amz-copy-source", b"bucket/%00"),
    (b"x-amz-copy-source", b"kept"), (b"range", b"bytes=9-1"), (b"range", b"bytes=" + b"0-0," * 900),
    (b"if-modified-since", b"31 Feb"), (b"if-match", b'"\xff'), (b"content-md5", b"AAAA"),
    (b"x-amz-checksum-sha1", b"?"), (b"x-amz-checksum-md4", b"x"), (b"x-amz-meta-\xff", b"x"),
    (b"x-amz-meta-a", b"\xff\xfe" * 600), (b"x-amz-storage-class", b"\xff"), (b"x-amz-acl", b"public-read"),
    (b"x-amz-tagging", b"a=b"), (b"x-amz-copy-source-range", b"bytes=0-"), (b"x-amz-security-token", b"x"),
    (b"origin", b"null"), (b"sec-fetch-site", b"cross-site"),
]  # fmt: skip

_METHODS = [
    b"GET",
    b"HEAD",
    b"PUT",
    b"POST",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PRI",
    b"get",
    b"G@T",
    b"",
]
_PAYLOADS = ["", UNSIGNED, STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, "nonsense", "0" * 64]

Change = Callable[[Random, Parts], None]


def mangle_bytes(random: Random, data: bytes) -> bytes:
    """One to three changes anywhere."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 16, 200)))
        match random.randrange(8):
            case 0:
                data = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[end:]
            case 2 | 3:
                data = data[:at] + random.choice(_WORDS) + data[at:]
            case 4:
                data = data[:at] + random.choice(_WORDS) + data[end:]
            case 5:
                data = data[:end] + data[at:end] * random.choice((1, 2, 50)) + data[end:]
            case 6:
                data = data[:at]
            case _:
                data = (
                    data[:at] + bytes(byte ^ (1 << random.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]
                )
    return data


def _path(random: Random, parts: Parts) -> None:
    parts.path = mangle_bytes(random, parts.path)


def _query(random: Random, parts: Parts) -> None:
    parts.query = mangle_bytes(random, parts.query)


def _one_value(random: Random, parts: Parts) -> None:
    """Of a parameter, instead of its own."""
    pairs = parts.query.split(b"&")
    at = random.randrange(len(pairs))
    pairs[at] = pairs[at].partition(b"=")[0] + b"=" + random.choice(_WORDS)
    parts.query = b"&".join(pairs)


def _body(random: Random, parts: Parts) -> None:
    """The document; what the headers say of it is made true again, so that it gets read."""
    parts.body = mangle_bytes(random, parts.body)
    parts.headers = [(n, v) if n != b"content-md5" else _md5(parts.body)[0] for n, v in parts.headers]


def _coded_body(random: Random, parts: Parts) -> None:
    seed = random.randrange(1 << 32)
    parts.change = lambda body: mangle_bytes(Random(seed), body)


def _header(random: Random, parts: Parts) -> None:
    if not parts.headers:
        return _more_headers(random, parts)
    at = random.randrange(len(parts.headers))
    name, value = parts.headers[at]
    if random.random() < 0.2:
        name = mangle_bytes(random, name)
    else:
        value = random.choice(_WORDS) if random.random() < 0.4 else mangle_bytes(random, value)
    parts.headers[at] = (name, value)
    return None


def _more_headers(random: Random, parts: Parts) -> None:
    for _ in range(random.choice((1, 1, 1, 2, 120))):
        parts.headers.insert(random.randrange(len(parts.headers) + 1), random.choice(_FIELDS))


def _fewer_headers(random: Random, parts: Parts) -> None:
    if parts.headers:
        parts.headers.pop(random.randrange(len(parts.headers)))


def _trailers(random: Random, parts: Parts) -> None:
    parts.trailers = [(mangle_bytes(random, name), mangle_bytes(random, value)) for name, value in parts.trailers] * 2


def _method(random: Random, parts: Parts) -> None:
    parts.method = random.choice(_METHODS)


def _coding(random: Random, parts: Parts) -> None:
    parts.payload = random.choice(_PAYLOADS)
    parts.transfer = random.random() < 0.3
    parts.chunk = random.choice((1, 100, 8192, 65536)) if len(parts.body) < 1000 else 8192


def _where(random: Random, parts: Parts) -> None:
    parts.where = random.choice(("header", "query", "v2", ""))
    parts.version = random.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"HTTP/9.9", b""))


_CHANGES: Sequence[Change] = (
    _path, _path, _query, _query, _one_value, _one_value, _body, _body, _body, _coded_body, _coded_body, _header,
    _header, _more_headers, _more_headers, _fewer_headers, _trailers, _method, _coding, _where,
)  # fmt: skip


def mangled(random: Random, user: User | None, host: bytes, upload: bytes) -> tuple[bytes, bool]:
    """A request with something wrong, or several things; and whether it was one to be answered by a head alone."""
    parts = random.choice(originals(upload)).copy()
    how = random.random()
    if how < 0.75:  # under a signature that is right
        for _ in range(random.choice((1, 1, 2, 3))):
            random.choice(_CHANGES)(random, parts)
    data = assemble(parts, user, host)
    if how > 0.65:
        data = mangle_bytes(random, data)
    if random.random() < 0.05:  # and something after it
        data += mangle_bytes(random, assemble(random.choice(originals(upload)), user, host))
    return data, b"HEAD" in data
