"""One line per request that no client can break, and without its secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import pytest
import pytest_twisted
from rawhttp import serving
from twisted.web.server import NOT_DONE_YET

from aisobj.web.accesslog import AccessLog, _plain_target, _target, _wordy_target
from aisobj.web.logfile import _atomic
from aisobj.web.redaction import redacted
from aisobj.web.request import Request

LINE = re.compile(
    r"127\.0\.0\.1 - (?P<who>\S+) \[14/Nov/2023:22:13:20 \+0000\] "
    r'"(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" '
    r"operation=(?P<operation>\S+) bucket=(?P<bucket>\S+) key=(?P<key>\S+) id=(?P<id>[0-9A-F]{16}) "
    r"in=(?P<in>\d+) out=(?P<out>\d+) seconds=\d+\.\d{6} error=(?P<error>\S+)\n"
)


async def lines_of(tmp_path: Path, raw: bytes, handler: Any = lambda request: b"body") -> list[dict[str, str]]:
    log = AccessLog(str(tmp_path / "access.log"))
    async with serving(handler, log) as server:
        await server.ask(raw)
    server.site.flush()
    log.close()
    lines = (tmp_path / "access.log").read_text("ascii").splitlines(keepends=True)
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return [match.groupdict() for match in found if match]


def get(target: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n"


@pytest_twisted.ensureDeferred
async def test_a_line_has_what_the_resources_said(tmp_path: Path) -> None:
    def handler(request: Request) -> int:
        request.operation = "GetObject"
        request.bucket = "bucket"
        request.key = b"a b\n\xc3\xa9"
        request.principal_name = "al ice"
        request.error_code = "NoSuchKey"
        request.respond(404, [], b"body")
        return NOT_DONE_YET

    (line,) = await lines_of(tmp_path, get(b"/s3/b/k?x=1", b"User-Agent: Boto3/1"), handler)
    assert line["request"] == "GET /s3/b/k?x=1 HTTP/1.1"
    assert (line["operation"], line["bucket"], line["key"]) == ("GetObject", "bucket", "a%20b%0A%C3%A9")
    assert (line["who"], line["error"], line["status"]) == ("al%20ice", "NoSuchKey", "404")
    assert (line["bytes"], line["out"], line["in"], line["agent"]) == ("4", "4", "0", "Boto3/1")


@pytest.mark.parametrize("name", [b"X-Amz-Signature", b"x-amz-credential", b"X-Amz-%53ecurity-Token", b"Signature"])
@pytest_twisted.ensureDeferred
async def test_no_credential_gets_into_the_log(tmp_path: Path, name: bytes) -> None:
    query = b"?a=b&" + name + b"=SECRET&X-Amz-Date=1"
    (line,) = await lines_of(tmp_path, get(b"/k" + query, b"Referer: http://x/" + query, b"Authorization: SECRET"))
    assert "SECRET" not in str(line)
    assert line["request"] == f"GET /k?a=b&{name.decode()}=-&X-Amz-Date=1 HTTP/1.1"


_SIGNED = b"&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=content-type%3Bhost"


@pytest.mark.parametrize(
    "beside",
    [
        (b"", _SIGNED, b""),  # botocore
        (b"", _SIGNED + b"&x-id=GetObject", b""),  # Go
        (
            b"&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD",
            b"&X-Amz-Date=1",
            b"&x-amz-checksum-mode=ENABLED&x-id=GetObject",
        ),  # JS
    ],
    ids=["botocore", "Go", "JavaScript"],
)
def test_what_sdks_presign_is_shown_at_once_and_as_if_it_were_looked_at(beside: tuple[bytes, bytes, bytes]) -> None:
    before, between, after = beside

    def url(secret: bytes) -> bytes:
        head = b"/s3/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256" + before + b"&X-Amz-Credential=" + secret
        return head + between + b"&X-Amz-Signature=" + secret + after

    presigned = url(b"5ecre7%2F1")
    assert _plain_target(presigned) or _wordy_target(presigned)
    assert _target(presigned) == redacted(presigned.decode()) == url(b"-").decode()


@pytest.mark.parametrize("hidden", [b";", b"?", b"%26", b"&x-id=", b"&x-id=;", b"&X-Amz-Date=1%253B"])
def test_nothing_hides_beside_what_sdks_presign(hidden: bytes) -> None:
    for sign in (b"=", b":", b"%3D", b"%253d"):
        piece = hidden + b"Signature" + sign + b"5ecre7"
        for before, after in ((piece, b""), (b"", piece)):
            url = b"/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%b%b&X-Amz-Signature=b%b"
            assert "5ecre7" not in _target(url % (_SIGNED, before, after))


@pytest_twisted.ensureDeferred
async def test_no_header_ends_its_field(tmp_path: Path) -> None:
    (line,) = await lines_of(tmp_path, get(b'/"', b'User-Agent: a" x\\y\t\xff', b'Referer: "'))
    assert (line["agent"], line["referer"]) == (r"a\x22 x\x5cy\x09\xff", r"\x22")
    assert line["request"] == r"GET /\x22 HTTP/1.1"


@pytest_twisted.ensureDeferred
async def test_what_is_refused_before_it_is_a_request_is_logged_too(tmp_path: Path) -> None:
    (line,) = await lines_of(tmp_path, b"G@T / HTTP/1.1\r\n\r\n")
    assert (line["request"], line["status"], line["error"]) == ("- - HTTP/1.1", "400", "BadRequest")


@pytest_twisted.ensureDeferred
async def test_lines_are_written_by_the_sweep_and_by_the_drain(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    async with serving(lambda request: b"", log) as server:
        client = await server.connect(get(b"/1").replace(b"close", b"x"))
        await client.response()
        assert path.read_bytes() == b""
        server.advance(1)
        assert path.read_bytes().count(b"\n") == 1
        client.send(get(b"/2"))
        await client.closed()
        client.transport.loseConnection()
        await server.site.drain(10)
        assert path.read_bytes().count(b"\n") == 2
    log.close()


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    path.rename(tmp_path / "old")
    log.reopen()
    assert path.exists()
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        log.reopen()
    log.close()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest_twisted.ensureDeferred
async def test_a_full_disk_loses_lines_but_no_request() -> None:
    log = AccessLog("/dev/full")
    async with serving(lambda request: b"", log) as server:
        client = await server.connect(get(b"/").replace(b"close", b"x"))
        for _ in range(2):
            assert (await client.response())[0] == 200
            server.advance(1)
            client.send(get(b"/").replace(b"close", b"x"))
    log.close()


def test_lines_for_a_pipe_are_cut_only_between_lines() -> None:
    lines = [b"x" * (length % 3000) + b"\n" for length in range(1, 40_000, 777)]
    lines.insert(7, b"y" * 3 * PIPE_BUF + b"\n")  # cannot be helped
    pieces = list(_atomic(b"".join(lines)))
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert sum(len(piece) > PIPE_BUF for piece in pieces) == 1
    assert len(pieces) < len(lines)
