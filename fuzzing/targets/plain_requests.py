r"""Plain requests, which have a short way past the resource tree: it must do and give what the tree does.

An input is ``how METHOD PATH``, then lines of a head; of a write then an empty line and a body. ``how`` is a byte:
whether the server is open, whether and how the URL is presigned or the head signed, and whether a byte of the head is
changed afterwards.
Where a line of a write ends with ``=``, the length of the body stands there. What comes after a head may come later.
"""

from __future__ import annotations

import re

from fuzzing.target import Label, Target, chance, same, words
from fuzzing.targets.world import HOST, presigned, signed_lines, worlds

_READ = re.compile(rb"(.)(GET|HEAD) (/[!-~]*)\Z", re.DOTALL).match
_WRITE = re.compile(rb"(.)(PUT|DELETE) (/[!-~]*)\Z", re.DOTALL).match


def check_read(data: bytes) -> Label:
    first, *lines = data.split(b"\n")
    match = _READ(first)
    if match is None or b"#" in first:
        return None
    how, head = match[1][0], _head(data, match, lines)
    one = head.count(b"\r\n\r\n") == 1 and head.endswith(b"\r\n\r\n") and head.startswith((b"GET ", b"HEAD "))
    return _compare(how, head) if one else None


def check_write(data: bytes) -> Label:
    text, _, body = data.partition(b"\n\n")
    first, *lines = text.split(b"\n")
    match = _WRITE(first)
    if match is None or b"#" in first:
        return None
    length = b"%d" % len(body)
    lines = [line[:-1] + length if line.endswith(b"=") else line for line in lines]
    short, long = worlds()
    try:
        head = _head(text, match, lines, body)
        at = chance(data, len(body) + 1, 3)
        label = _compare(match[1][0], *([head + body] if chance(data, 2, 4) else [head + body[:at], body[at:]]))
        same(short.rows(), long.rows(), "the short way leaves what the tree leaves")
        return label
    finally:
        short.reset()
        long.reset()


def _head(data: bytes, match: re.Match[bytes], lines: list[bytes], body: bytes = b"") -> bytes:
    how, method, target = match[1][0], match[2], match[3]
    target = presigned(method, target, how)
    lines = signed_lines(method, target, how, lines, body)
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: " + HOST, *lines, b"", b""])
    if how & 64:
        at = chance(data, len(head), 1)
        head = head[:at] + bytes([33 + chance(data, 94, 2)]) + head[at + 1 :]
    return head


def _compare(how: int, *pieces: bytes) -> Label:
    short, long = worlds()
    is_open = how % 3 == 0
    told = short.ask(is_open, *pieces)
    same(told, long.ask(is_open, *pieces), "the short way gives what the tree gives, and its lines in the logs")
    return short.plain() > 0, how % 12, told[0][9:12]


_COMMON = r"""
    /s3/bck/small /s3/bck/a/b.c~d /s3/bck/empty /s3/bck/named /s3/bck/summed /s3/bck/many /s3/bck/large
    /s3/versions/small /s3/checked/small /s3/unsummed/small /s3/nobody/small /s3/bck/nothing /s3/bck/ /s3/bck //
    \nAccept:\x20*/* \nAccept-Encoding:\x20gzip \nUser-Agent:\x20Go-http-client/1.1 \nConnection:\x20keep-alive
    \nConnection:\x20close \nIf-None-Match:\x20* \nHost:\x20x \nContent-Length:\x200
    \nx-amz-security-token:\x20a \nx-amz-meta-a:\x20b ?versionId=null ?partNumber=1 %2F %41 + . .. ~
    \nReferer:\x20http://a/?Signature=b \nOrigin:\x20null
    """

TARGETS = [
    Target(
        "plain-read",
        check_read,
        "the short way for small objects sends, byte for byte, and logs what the resource tree does",
        words(
            r"GET\x20/s3/bck/small HEAD\x20/s3/bck/small \nRange:\x20bytes=0-1 &response-content-type=a/b "
            r"\nx-amz-checksum-mode:\x20ENABLED ?x-id=GetObject \namz-sdk-request:\x20attempt=1 "
            r"\nx-amz-user-agent:\x20aws-sdk-js \nX-Amz-Date:\x2020130524T000000Z" + _COMMON
        ),
    ),
    Target(
        "plain-write",
        check_write,
        "the short way for small objects stores, sends and logs what the resource tree does",
        words(
            r"PUT\x20/s3/bck/small DELETE\x20/s3/bck/small \nContent-Length:\x20= \nContent-Length:\x205 \n\nhello "
            r"\nContent-MD5:\x20XUFAKrxLKna5cZ2REBfFkg== \nExpect:\x20100-continue \nContent-Type:\x20text/plain "
            r"\nTransfer-Encoding:\x20chunked \nx-amz-copy-source:\x20bck/small \nIf-Match:\x20* ?x-id=PutObject "
            r"\nx-amz-checksum-crc32:\x20NhCmhg== \nx-amz-sdk-checksum-algorithm:\x20CRC32 \nx-amz-acl:\x20private "
            r"\nx-amz-meta-mtime:\x201.5 \nx-amz-storage-class:\x20STANDARD \nContent-Length:\x2010" + _COMMON
        ),
        max_size=1024,
    ),
]
