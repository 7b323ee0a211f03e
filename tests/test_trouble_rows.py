"""The rows of bad inputs that need time, or a server of their own, or a connection to look at. This module comes late,
so that time has passed. The others are in ``test_bad_inputs`` and ``test_bad_requests``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from badinputs import Checked, Rows
from test_error_codes import Provoked, internal_error, service_unavailable, slow_down

ROWS = Rows()
row = ROWS.row


@pytest.fixture(scope="module")
def shared(server: Any, signed_server: Any, slow_connections: Any) -> Provoked:
    world = Provoked(server, signed_server)
    world.slow = slow_connections
    return world


@pytest.fixture
def world(shared: Provoked, make_server: Any) -> Provoked:
    shared.make_server = make_server
    return shared


@pytest.mark.parametrize("name", ROWS.by_name)
def test_bad_input(name: str, world: Provoked) -> None:
    ROWS.check(name, world)


@row(64)
def _(w: Provoked) -> Iterator[Checked]:
    """There are no tags: AWS's InvalidTag would be an answer to what is not implemented."""
    many = "&".join(f"k{number}=v" for number in range(11))
    for value in (many, "k" * 129 + "=v", "k=" + "v" * 257, "k=a&k=b"):
        yield w.open.ask("PUT", w.target, [("x-amz-tagging", value)], b"x"), 501, "NotImplemented"
        tags = "".join(
            f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, _, v in (t.partition("=") for t in value.split("&"))
        )
        document = f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()
        yield w.open.ask("PUT", f"{w.path}/kept?tagging", body=document), 501, "NotImplemented"


def form(policy: str, size: int = 1) -> bytes:
    fields = {
        "key": "k",
        "policy": policy,
        "x-amz-signature": "0" * 64,
        "x-amz-credential": "AKIAALICE/20200101/r/s3/x",
    }
    text = "".join(f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items())
    return f'{text}--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n{"x" * size}\r\n--b--\r\n'.encode()


@row(66)
def _(w: Provoked) -> Iterator[Checked]:
    """There are no forms: nobody is let in by one, and who is let in is told that there are none."""
    fields = [("content-type", "multipart/form-data; boundary=b")]
    for policy in ("eyJleHBpcmF0aW9uIjoiMjAyMC0wMS0wMVQwMDowMDowMFoifQ==", "e30=", "not base64!", ""):
        for size in (1, 60_000):
            yield w.unsigned.ask("POST", w.path, fields, form(policy, size)), 403, "AccessDenied"
            yield w.open.ask("POST", w.path, fields, form(policy, size)), 501, "NotImplemented"
            yield w.signed.ask("POST", w.path, fields, form(policy, size)), 501, "NotImplemented"


@row(71, once=True)
def _(w: Provoked) -> Iterator[Checked]:
    for wire in w.slow.others:
        answer = wire.answer()
        assert answer.headers["connection"] == "close"
        assert wire.closed()
        yield answer, 400, "RequestTimeout"


@row(72, once=True)
def _(w: Provoked) -> Iterator[Checked]:
    yield slow_down(w), 503, "SlowDown"
    yield service_unavailable(w), 503, "ServiceUnavailable"


@row(73, once=True)
def _(w: Provoked) -> Iterator[Checked]:
    yield internal_error(w), 500, "InternalError"


def head(w: Provoked, *lines: str, method: str = "PUT", version: str = "HTTP/1.1", target: str = "") -> bytes:
    first = f"{method} {target or w.target} {version}\r\nHost: {w.open.host}\r\n"
    return (first + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def refused(w: Provoked, data: bytes, code: str = "BadRequest") -> Checked:
    """With one answer, after which there is nothing, though another request follows."""
    with w.open.connect() as wire:
        wire.send(data + w.open.request("DELETE", f"{w.path}/kept"))
        answer = wire.answer()
        assert answer.headers["connection"] == "close"
        assert wire.closed()
    return answer, 400, code


@row(75)
def _(w: Provoked) -> Iterator[Checked]:
    for upgrade in ("h2c", "websocket", "TLS/1.0", "x"):
        lines = ("Connection: Upgrade", f"Upgrade: {upgrade}")
        yield refused(w, head(w, *lines, "Content-Length: 3") + b"abc")
        yield refused(w, head(w, *lines, "Transfer-Encoding: chunked") + b"0\r\n\r\n")
        with w.open.connect() as wire:  # without a body it is ignored, and the next request is one
            wire.send(
                head(w, *lines, method="GET", target=f"{w.path}/missing") + w.open.request("GET", f"{w.path}/kept")
            )
            yield wire.answer(), 404, "NoSuchKey"
            assert wire.answer().status == 200


@row(76)
def _(w: Provoked) -> Iterator[Checked]:
    for version in ("HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "RTSP/1.0", "HTTP/11", "http/1.1"):
        yield refused(w, head(w, "Content-Length: 0", version=version))
    yield refused(w, head(w, "Transfer-Encoding: chunked", version="HTTP/1.0") + b"0\r\n\r\n")
    for coding in ("gzip", "gzip, chunked", "chunked, chunked", "identity", "chunked;a=b", "", "deflate"):
        yield refused(w, head(w, f"Transfer-Encoding: {coding}") + b"0\r\n\r\n")
    yield refused(w, head(w, "Content-Length: 0", target=f"{w.target}#x"), "InvalidURI")
    yield refused(w, head(w, "A: " + "x" * 17_000), "RequestHeaderSectionTooLarge")
    chunked = head(w, "Transfer-Encoding: chunked")
    yield refused(w, chunked + b"1;" + b"x" * 300 + b"\r\n")
    yield refused(w, chunked + b"1;" + b"x" * 300)  # without its end
    yield refused(w, chunked + b"1\r\nx\r\n0\r\n" + b"A: " + b"x" * 16_400)
    yield refused(w, chunked + b"1\r\nx\r\n0\r\n" + b"A: b\r\n" * 3000)


@row(77, once=True)
def _(w: Provoked) -> Iterator[Checked]:
    with w.open.connect() as wire:
        wire.send(b"".join(w.open.request("GET", f"{w.path}/missing-{number}") for number in range(3000)))
        for number in range(3000):
            answer = wire.answer()
            assert answer.element("Key") == f"missing-{number}"
            yield answer, 404, "NoSuchKey"
    with w.open.connect() as wire:
        last = w.open.request("GET", f"{w.path}/missing", [("connection", "close")])
        wire.send(last + w.open.request("DELETE", f"{w.path}/kept") + b"x" * 100_000)
        yield wire.answer(), 404, "NoSuchKey"
        assert wire.closed()
    trailers = b"0\r\nIf-Match: x\r\nx-amz-meta-a: b\r\nx-amz-acl: public-read\r\nContent-Length: 7\r\n\r\n"
    with w.open.connect() as wire:
        wire.send(head(w, "Transfer-Encoding: chunked") + b"1\r\nx\r\n" + trailers + w.open.request("HEAD", w.target))
        assert wire.answer().status == 200
        assert "x-amz-meta-a" not in wire.answer("HEAD").headers
    yield w.open.ask("DELETE", w.target), 204, ""
